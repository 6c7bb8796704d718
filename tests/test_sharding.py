"""Under jit, arrays split over devices: the same values, and few words between them."""

import dataclasses
from collections import Counter

import jax
import numpy as np
import pytest

from tests import check, sharding_cases, tolerances
from tests.cases import function, inputs
from tests.sharding_cases import MORE, SPLITS, Split

KINDS = ("auto", "explicit")
EVERY = [*SPLITS, *MORE]


def named(splits: list[Split]):
    return pytest.mark.parametrize("split", splits, ids=[s.name for s in splits])


def mesh(split, kind):
    return sharding_cases.mesh(split, jax.devices(), kind)


@pytest.mark.parametrize("mean", [0.0, 1e4])
@pytest.mark.parametrize("kind", KINDS)
@named(EVERY)
def test_values(split, kind, mean):
    on = mesh(split, kind)
    case = dataclasses.replace(split.case, mean=mean)
    data = inputs(case)
    arguments = sharding_cases.place(split, data, on)
    x, gamma, beta, *_ = arguments
    y, gradients = sharding_cases.compiled(split, on, True)(*arguments)
    check.values(case, data, y)
    check.gradients(case, data, gradients)

    whole = jax.jit(function(case, None))(*data.primals, data.mask)
    tolerances.assert_close(
        y, np.asarray(whole, np.float64), check.value_bound(case, data)
    )

    for result, argument in ((y, x), *zip(gradients, (x, gamma, beta), strict=True)):
        if argument is not None and (kind == "explicit" or argument is x):
            assert result.sharding.is_equivalent_to(argument.sharding, argument.ndim)


@pytest.mark.parametrize("kind", KINDS)
@named(SPLITS)
def test_collectives(split, kind):
    expected = split.explicit() if kind == "explicit" else split.automatic()
    found = sharding_cases.collectives(split, mesh(split, kind))
    for sizes, counted in zip(expected, found, strict=True):
        assert counted == Counter(("all-reduce", size) for size in sizes)
