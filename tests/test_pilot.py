"""Nine values of each group are found in four ways, which differ in what they read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_gn import _problem
from flax_gn._xla import _pilot, _tpu

WAYS = {
    "slices": _pilot.sliced,
    "apart": _tpu._apart,
    "rows": lambda problem, x: _tpu._from_rows(problem, x, _longest(problem, x)),
    "gather": _pilot._gathered,
}
SHAPES = {
    "wide": ((2, 5, 112, 12), 3, None),
    "several_blocks": ((2, 300, 6), 3, None),
    "volume": ((1, 3, 4, 7, 4), 1, None),
    "kept_axis_between": ((2, 6, 3, 40, 4), 2, (1, 3, 4)),
    "unit": ((3, 1, 1, 8), 8, None),
}


def _longest(problem, x):
    return max(problem.reduced, key=lambda axis: x.shape[axis])


def _made(shape, groups, axes, values):
    problem, operands = _problem.canonicalise(
        jnp.asarray(values, jnp.float32).reshape(shape),
        None,
        None,
        groups,
        reduction_axes=axes,
    )
    return problem, operands.x


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("way", WAYS)
def test_they_are_values_of_their_group(way, shape):
    shape, groups, axes = SHAPES[shape]
    problem, x = _made(shape, groups, axes, np.arange(np.prod(shape)))
    values = jnp.asarray(list(jax.jit(lambda x: WAYS[way](problem, x))(x)))
    kept = [1 if axis in problem.reduced else n for axis, n in enumerate(shape)]
    assert values.shape == (9, *kept[:-1], groups)
    # x holds its own flat positions.
    where = np.unravel_index(np.asarray(values, int), shape)
    for axis in range(len(shape) - 1):
        if axis not in problem.reduced:
            at = np.arange(shape[axis]).reshape(-1, *(1,) * (len(shape) - 1 - axis))
            assert (where[axis] == at).all()
    assert (where[-1] // (shape[-1] // groups) == np.arange(groups)).all()


@pytest.mark.parametrize("way", WAYS)
def test_other_values_do_not_reach_them(way):
    shape, groups, axes = SHAPES["wide"]
    problem, x = _made(shape, groups, axes, np.arange(np.prod(SHAPES["wide"][0])))
    values = np.asarray(list(WAYS[way](problem, x)))
    spoilt = np.where(np.isin(x, values), x, np.nan)
    assert np.isnan(spoilt).any()
    np.testing.assert_array_equal(list(WAYS[way](problem, jnp.asarray(spoilt))), values)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((64, 112, 112, 64), 1),
        ((1, 224, 224, 144, 16), 1),
        ((64, 56, 56, 64), None),
        ((2, 64, 64, 320), None),
        ((2, 128, 128, 128), None),
        ((8, 32), None),
    ],
)
def test_which_axis_a_tpu_lays_out_fastest(shape, axis):
    problem, _ = _problem.canonicalise(jnp.zeros((2,) * len(shape)), None, None, 2)
    assert _tpu._spatial_minor(problem, shape) == axis
