"""The op against what torch, equinox, haiku and keras gave for the same arrays.

The files and the scripts that made them are in golden/. Both sides round, so results
may differ by the op's bound and the peer's; the peers round the mean, as the reference
does.
"""

import functools
import importlib

import jax
import numpy as np
import pytest

from flax_gn import group_norm
from tests import check, tolerances
from tests.cases import IMPLEMENTATIONS, LITERAL, Case, Inputs, precision
from tests.golden import recipe

PEERS = ("torch", "equinox", "haiku", "keras")
GOLDEN = [
    pytest.param(peer, golden, id=f"{peer}-{golden.name}")
    for peer in PEERS
    for golden in recipe.read(peer)[1]
]
(ROUNDS_THE_MEAN,) = LITERAL


@functools.cache
def _arrays(peer):
    return recipe.read(peer)[1]


def _case(golden) -> Case:
    return Case(
        golden.name,
        golden.shape,
        golden.groups,
        golden.dtype,
        golden.gamma,
        golden.gamma,
        eps=golden.eps,
        mean=golden.mean,
        parameter_dtype=golden.dtype,
    )


def _inputs(golden, arrays) -> Inputs:
    """The stored inputs in their dtype, which float32 held exactly."""
    x, gamma, beta, dy = (
        arrays[name].astype(np.dtype(golden.dtype)) if name in arrays else None
        for name in recipe.INPUTS
    )
    assert x is not None
    assert dy is not None
    return Inputs(x, gamma, beta, None, x, gamma, beta, dy)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("peer", "golden"), GOLDEN)
def test_gives_what_the_peer_gave(peer, golden, implementation):
    stored = _arrays(peer)[golden]
    case, data = _case(golden), _inputs(golden, stored)

    @jax.jit
    def run(x, gamma, beta, dy):
        f = functools.partial(
            group_norm, groups=case.groups, eps=case.eps, implementation=implementation
        )
        y, pullback = jax.vjp(f, x, gamma, beta)
        return y, pullback(dy)

    with precision(case.dtype):
        y, gradients = run(*data.primals, data.dy)

    both = (implementation, ROUNDS_THE_MEAN)
    bound = sum(check.value_bound(case, data, side) for side in both)
    tolerances.assert_close(y, stored["y"], bound, "y")
    bounds = [check.gradient_bounds(case, data, side) for side in both]
    assert set(bounds[0]) == {"x"} | ({"gamma", "beta"} if "gamma" in stored else set())
    for name, actual in zip(("x", "gamma", "beta"), gradients, strict=True):
        if name in bounds[0]:
            bound = sum(side[name] for side in bounds)
            tolerances.assert_close(actual, stored[f"d{name}"], bound, f"d{name}")


@pytest.mark.parametrize(("peer", "golden"), GOLDEN)
def test_a_golden_file_holds_what_its_recipe_says(peer, golden):
    stored = _arrays(peer)[golden]
    for name, values in recipe.inputs(golden).items():
        got = stored[name].astype(np.float64)
        unit = tolerances.unit(golden.dtype)
        np.testing.assert_allclose(got, values, rtol=1.001 * unit, atol=1e-7)
        np.testing.assert_array_equal(got.astype(np.dtype(golden.dtype)), stored[name])
    affine = () if golden.gamma == "none" else ("gamma", "beta")
    assert set(stored) == {"x", "dy", "y", "dx", *affine, *(f"d{a}" for a in affine)}


@pytest.mark.parametrize("peer", PEERS)
def test_a_golden_file_has_the_scripts_cases_and_is_small(peer):
    module = importlib.import_module(f"tests.golden.make_{peer}")
    versions, arrays = recipe.read(peer)
    assert tuple(arrays) == module.CASES
    assert {"torch": "torch", "haiku": "dm-haiku"}.get(peer, peer) in versions
    assert recipe.path(peer).stat().st_size < 100_000


@pytest.mark.parametrize(
    ("peer", "name"),
    [
        ("equinox", "mean_3"),
        ("haiku", "mean_3"),
        ("haiku", "per_sample"),
        ("keras", "mean_3"),
    ],
)
def test_the_peer_here_still_gives_it(peer, name):
    """The installed version may be another; its rounding may differ, no more."""
    (golden,) = (golden for golden in _arrays(peer) if golden.name == name)
    made = importlib.import_module(f"tests.golden.make_{peer}").make(golden)
    stored = _arrays(peer)[golden]
    assert set(made) == set(stored)
    for array, values in made.items():
        np.testing.assert_allclose(values, stored[array], rtol=1e-4, atol=1e-4)
