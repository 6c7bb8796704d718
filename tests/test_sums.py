"""Sums in the forms that the platforms are best at are sums all the same."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_gn._xla import _arithmetic, _cpu_sums, _gpu_rows, _gpu_sums
from tests import cases

SHAPES = [
    (2, 3, 4, 5),
    (2, 40, 40, 3),
    (1, 25, 42, 2),
    (3, 37, 2),
    (1, 1, 1, 4),
    (2, 509, 3),
    (2, 16, 3),
    (2, 6),
]


def _gpu(axes, a, b):
    return _gpu_sums.channel_sums(axes, a, b)


def _cpu(axes, a, b):
    return _cpu_sums.added_sums(axes, lambda a, b: (a, b), a, b)


FORMS = {"gpu": _gpu, "cpu": _cpu}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_two_sums_as_one_of_complex_numbers(shape, dtype, form):
    axes = tuple(range(1, len(shape) - 1))
    with cases.precision(dtype):
        a, b = np.random.default_rng(1).standard_normal((2, *shape)).astype(dtype)
        sums = jax.jit(lambda a, b: FORMS[form](axes, a, b))(a, b)
        for values, total in zip((a, b), sums, strict=True):
            assert total.dtype == dtype
            expected = values.astype(np.float64).sum(axes, keepdims=True)
            bound = np.finfo(dtype).eps * np.abs(values).sum(axes, keepdims=True)
            assert total.shape == expected.shape
            assert (np.abs(total - expected) <= bound).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(1, 4, 4, 2), (1, 40, 40, 2)])
def test_one_sum_does_not_spoil_the_other(shape, bad, form):
    """Complex products mix the parts of a number; complex sums do not."""
    good = np.ones(shape, np.float32)
    spoilt = good.copy()
    spoilt[0, 1, 1, 0] = bad
    for first, second in ((good, spoilt), (spoilt, good)):
        sums = jax.jit(lambda a, b: FORMS[form]((1, 2), a, b))(first, second)
        for values, total in zip((first, second), sums, strict=True):
            np.testing.assert_array_equal(total, values.sum((1, 2), keepdims=True))


def test_a_few_positions_are_added_at_a_time():
    """Of many, XLA's loop would read lines of memory that it has lost again."""
    x = np.random.default_rng(4).integers(-9, 9, (2, 32, 40, 3)).astype(np.float32)
    traced = jax.make_jaxpr(lambda x: _cpu((1, 2), x, x))(x)
    summed = [e for e in traced.jaxpr.eqns if e.primitive.name == "reduce_sum"]
    added = [e.invars[0].aval.size // e.outvars[0].aval.size for e in summed]
    assert math.prod(added) == 32 * 40
    # 8, 5, 8, and 4 that are left.
    assert added == [8, 8, 5, 4]


def test_small_arrays_take_part_in_every_part():
    x = np.random.default_rng(2).integers(-9, 9, (2, 20, 30, 4)).astype(np.float32)
    small = np.arange(2 * 30 * 4, dtype=np.float32).reshape(2, 1, 30, 4)

    def of_element(x, small):
        return x - small, x * small

    sums = jax.jit(lambda *arrays: _cpu_sums.added_sums((1, 2), of_element, *arrays))
    for value, total in zip(of_element(x, small), sums(x, small), strict=True):
        np.testing.assert_array_equal(total, value.sum((1, 2), keepdims=True))


@pytest.mark.parametrize("form", FORMS)
def test_derivatives_are_those_of_plain_sums(form):
    x, dx = np.random.default_rng(3).standard_normal((2, 2, 20, 30, 4)).astype("f4")

    def ours(x):
        return FORMS[form]((1, 2), x, jnp.square(x))

    def plain(x):
        return tuple(
            _arithmetic.spatial_sum((1, 2), value) for value in (x, jnp.square(x))
        )

    found = jax.jit(lambda x, dx: jax.jvp(ours, (x,), (dx,)))(x, dx)
    expected = jax.jvp(plain, (x,), (dx,))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4),
        found,
        expected,
    )


@pytest.mark.parametrize("size", [1, 2, 3, 7, 30, 60, 64, 128, 129])
def test_sum_over_the_channels_of_a_group(size):
    values = np.random.default_rng(2).integers(-9, 9, (2, 3, size)).astype(np.float32)
    added = _gpu_rows.sum_last(jnp.asarray(values), size)
    np.testing.assert_array_equal(added, values.sum(-1))
    np.testing.assert_array_equal(_gpu_rows.sum_last(jnp.asarray(values)), added)


@pytest.mark.parametrize(("positions", "loops"), [(16, 1), (17, 2), (64, 2)])
def test_few_positions_are_added_in_one_loop(positions, loops):
    x = jnp.ones((2, positions, 3))
    sums = jax.jit(lambda x: _cpu_sums.added_sums((1,), lambda x: (x, x * x), x))
    compiled = sums.lower(x).compile().as_text()
    assert compiled.count(" reduce(") == loops


@pytest.mark.parametrize(
    ("sizes", "split"),
    [
        ((128, 128), (0, 8)),
        ((56, 56, 36), (0, 8)),
        ((14, 14), (0, 7)),
        ((25, 42), (1, 7)),
        # No divisors: all if they are few, or 8 parts and a rest.
        ((9,), (0, 9)),
        ((13, 4), (0, 13)),
        ((509,), (0, 8)),
        # Nothing to add.
        ((1, 1), (0, 1)),
        ((), (0, 1)),
    ],
)
def test_parts(sizes, split):
    assert _cpu_sums._parts(sizes) == split
