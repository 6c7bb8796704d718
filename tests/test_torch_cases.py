"""The behaviours that torch's tests of group_norm assert, and where we differ.

Sources: test_nn.py, common_modules.py and the group_norm samples of
common_methods_invocations.py in pytorch. torch itself is no dependency: its definition
is written out here.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flax_gn import group_norm
from flax_gn import nnx as layers
from tests import oracle
from tests.cases import IMPLEMENTATIONS
from tests.variables import random

over_implementations = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)


def as_torch(x, groups, weight=None, bias=None, eps=1e-5):
    """F.group_norm by its definition, in float64 on (N, C, *)."""
    x = np.asarray(x, np.float64)
    values = x.reshape(x.shape[0], groups, -1)
    centred = values - values.mean(-1, keepdims=True)
    y = (centred / np.sqrt(values.var(-1, keepdims=True) + eps)).reshape(x.shape)
    per_channel = (-1,) + (1,) * (x.ndim - 2)
    y = y if weight is None else y * np.asarray(weight, np.float64).reshape(per_channel)
    return y if bias is None else y + np.asarray(bias, np.float64).reshape(per_channel)


def moved(f):
    """f on channels-last arrays, as a function of (N, C, *)."""
    return lambda x, *rest: jnp.moveaxis(f(jnp.moveaxis(x, 1, -1), *rest), -1, 1)


def with_gradients(f, *primals, dy=None):
    """y and the gradients of f, which is channels last, on (N, C, *)."""

    @jax.jit
    def run(*primals):
        y, pullback = jax.vjp(moved(f), *primals)
        return y, *pullback(y if dy is None else dy)

    return run(*primals)


@over_implementations
@pytest.mark.parametrize(
    ("shape", "groups", "eps"),
    [
        ((1, 6, 3), 2, 0.5),
        ((1, 3), 1, 1e-5),
        ((4, 6, 2, 3), 6, 1e-3),
        ((20, 6, 10, 10), 3, 1e-5),
    ],
    ids=str,
)
def test_every_choice_of_weight_and_bias(shape, groups, eps, implementation):
    x, weight, bias = random(shape), random(shape[1:2], 1), random(shape[1:2], 2)
    choices = list(itertools.product((weight, None), (bias, None)))

    def f(x, choice):
        weight, bias = choice
        return group_norm(
            x, weight, bias, groups, eps=eps, implementation=implementation
        )

    ys = jax.jit(lambda x: [moved(f)(x, choice) for choice in choices])(x)
    for y, choice in zip(ys, choices, strict=True):
        np.testing.assert_allclose(y, as_torch(x, groups, *choice, eps), atol=1e-5)


@over_implementations
@pytest.mark.parametrize("shape", [(0, 2), (0, 4, 2, 2), (2, 4, 0), (2, 4, 3, 0)])
def test_size_zero(shape, implementation):
    """An empty batch, as torch; and empty images, where torch differs by version."""

    def f(x, weight, bias):
        return group_norm(x, weight, bias, 2, implementation=implementation)

    weight, bias = random(shape[1:2], 1), random(shape[1:2], 2)
    y, dx, *d_parameters = with_gradients(f, jnp.zeros(shape), weight, bias)
    assert y.shape == dx.shape == shape
    for d in d_parameters:
        np.testing.assert_array_equal(d, np.zeros(shape[1]))


@over_implementations
@pytest.mark.parametrize("shape", [(1, 10), (1, 10, 1), (3, 10, 1, 1)])
def test_groups_of_one_value_give_the_bias(shape, implementation):
    """torch raises for a single such sample, and gives the bias for a batch of them."""
    x, weight, bias = random(shape), random((10,), 1), random((10,), 2)

    def f(x):
        return group_norm(x, weight, bias, 10, implementation=implementation)

    y, dx = with_gradients(f, x, dy=jnp.ones(shape))
    np.testing.assert_array_equal(y, as_torch(0 * x, 10, None, bias).astype("float32"))
    rounding = np.finfo("float32").eps * jnp.abs(weight).max() / np.sqrt(1e-5)
    np.testing.assert_allclose(dx, np.zeros(shape), atol=float(rounding))


@over_implementations
@pytest.mark.parametrize("shape", [(2, 8, 4), (3, 8, 2, 3), (2, 8, 2, 3, 2)], ids=str)
def test_each_group_has_mean_zero_and_variance_one_before_the_affine(
    shape, implementation
):
    x = 3 * random(shape) + 5
    scale, bias = np.arange(1.0, 9, dtype=np.float32), np.full(8, -2, np.float32)
    y = jax.jit(
        moved(lambda x: group_norm(x, scale, bias, 4, implementation=implementation))
    )(x)
    before = (np.moveaxis(np.asarray(y), 1, -1) - bias) / scale
    groups = np.moveaxis(before, -1, 1).reshape(shape[0], 4, -1)
    np.testing.assert_allclose(groups.mean(-1), 0, atol=1e-6)
    np.testing.assert_allclose(groups.var(-1), 1, atol=1e-4)


@over_implementations
def test_batches_beyond_65535(implementation):
    """The limit of a CUDA grid's second axis, where torch once failed."""
    x = random((65_537, 3, 4))
    y = group_norm(x, groups=2, implementation=implementation)
    np.testing.assert_allclose(
        y[-1], oracle.group_norm(x[-1:], None, None, 2).y[0], atol=1e-4
    )
    np.testing.assert_allclose(
        y[:2], oracle.group_norm(x[:2], None, None, 2).y, atol=1e-4
    )


@over_implementations
@pytest.mark.parametrize(
    ("shape", "dtype", "parameters"),
    [
        ((4, 8, 7, 7), "float32", "float32"),
        ((2, 8, 3, 4, 4), "float32", "float32"),
        ((4, 8, 7, 7), "bfloat16", "bfloat16"),
        ((2, 8, 3, 4, 4), "bfloat16", "float32"),
        ((4, 8, 7, 7), "float16", "float32"),
    ],
    ids=str,
)
def test_channels_last_and_mixed_dtypes_with_gradients(
    shape, dtype, parameters, implementation
):
    """torch compares its two memory formats; here the definition on (N, C, *) with
    the op on (N, *, C)."""
    x, dy = (random(shape, seed, dtype) for seed in (0, 5))
    weight, bias = (random((8,), seed, parameters) for seed in (1, 2))

    def f(x, weight, bias):
        return group_norm(x, weight, bias, 2, implementation=implementation)

    results = with_gradients(f, x, weight, bias, dy=dy)
    dtypes = dtype, dtype, parameters, parameters
    assert tuple(result.dtype for result in results) == dtypes
    last = [np.moveaxis(np.asarray(a, float), 1, -1) for a in (x, dy)]
    exact = oracle.gradients(last[0], weight, bias, 2, last[1])
    expected = (
        as_torch(x, 2, weight, bias),
        np.moveaxis(exact.x, -1, 1),
        exact.gamma,
        exact.beta,
    )
    for got, want in zip(results, expected, strict=True):
        np.testing.assert_allclose(
            np.asarray(got, float),
            want,
            rtol=float(jnp.finfo(got.dtype).eps) / 2,
            atol=2e-5 * np.abs(want).max(),
        )


@over_implementations
def test_views_that_are_not_contiguous(implementation):
    base = np.array(random((6, 9, 5, 16)))
    view = base[::2, ::-1].swapaxes(1, 2)[..., 3:11]
    assert not view.flags.c_contiguous
    np.testing.assert_array_equal(
        group_norm(view, groups=2, implementation=implementation),
        group_norm(view.copy(), groups=2, implementation=implementation),
    )


def test_the_module_has_torchs_defaults_but_for_epsilon():
    layer = layers.GroupNorm(6, 3, epsilon=1e-5, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(layer.scale, np.ones(6))
    np.testing.assert_array_equal(layer.bias, np.zeros(6))
    x = random((4, 6, 2, 3))
    np.testing.assert_allclose(moved(layer)(x), as_torch(x, 3), atol=1e-5)


def test_a_module_without_affine_has_no_parameters():
    layer = layers.GroupNorm(6, 3, use_scale=False, use_bias=False, rngs=nnx.Rngs(0))
    assert not jax.tree.leaves(nnx.state(layer))


@over_implementations
@pytest.mark.parametrize(
    ("shape", "dtype", "arguments", "error", "message"),
    [
        ((), "float32", {"groups": 1}, ValueError, "batch axis and a channel axis"),
        ((2, 4, 7), "float32", {"groups": 2}, ValueError, "groups=2 must divide"),
        # torch died of a floating point exception (#73194, #77897)
        ((1, 1), "float32", {"groups": 0}, ValueError, "groups must be at least 1"),
        ((1, 1), "int32", {"groups": 1}, TypeError, "x must be floating-point"),
        ((2, 3, 0), "float32", {"groups": 1}, ValueError, "at least one channel"),
        # a sample of torch's own tests has eps=-0.5
        (
            (2, 6),
            "float32",
            {"groups": 2, "eps": -0.5},
            ValueError,
            "eps must be 0, or",
        ),
        (
            (2, 6),
            "float32",
            {"groups": 2, "gamma": np.ones(5, np.float32)},
            ValueError,
            r"gamma must have shape \(6,\)",
        ),
    ],
)
def test_errors(shape, dtype, arguments, error, message, implementation):
    with pytest.raises(error, match=message):
        group_norm(np.ones(shape, dtype), **arguments, implementation=implementation)


@pytest.mark.parametrize("groups", [4, 0, -1])
def test_a_module_refuses_groups_at_construction(groups):
    with pytest.raises(ValueError, match=r"must divide|at least 1"):
        layers.GroupNorm(6, groups, rngs=nnx.Rngs(0))
