"""What keras' tests of GroupNormalization assert, and keras itself as an oracle.

Source: keras/src/layers/normalization/group_normalization_test.py, keras 3.15. Its
regularizers and constraints are refused, with the ways to have them in docs/peers.md.
"""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")  # read when keras is imported

import keras

from flax_gn import group_norm, instance_norm, layer_norm
from flax_gn import linen as layers
from tests import oracle
from tests.cases import IMPLEMENTATIONS
from tests.variables import apply, random

KERAS_EPSILON = 1e-3


@pytest.fixture(autouse=True)
def no_implicit_promotion():
    """keras mixes dtypes and ranks."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def in_keras(x, *parameters, **options):
    """keras' layer with the given gamma and beta."""
    layer = keras.layers.GroupNormalization(**options)
    layer.build(x.shape)
    return jax.jit(lambda x, *p: layer.stateless_call(list(p), [], x)[0])(
        x, *parameters
    )


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("shape", "groups"),
    [((3, 4, 32), 32), ((3, 4, 4), 4), ((5, 12), 3), ((2, 3, 4, 2, 6), 1)],
    ids=str,
)
def test_output_and_gradients_are_keras(shape, groups, implementation):
    x, gamma, beta = random(shape), random(shape[-1:], 1), random(shape[-1:], 2)

    @jax.jit
    def run(x, gamma, beta, dy):
        def ours(x, gamma, beta):
            return group_norm(
                x,
                gamma,
                beta,
                groups,
                eps=KERAS_EPSILON,
                implementation=implementation,
            )

        def theirs(x, gamma, beta):
            return in_keras(x, gamma, beta, groups=groups)

        return [
            (y, pullback(dy))
            for y, pullback in (jax.vjp(f, x, gamma, beta) for f in (ours, theirs))
        ]

    mine, keras_own = run(x, gamma, beta, random(shape, 5))
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(keras_own), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max() + 1e-6)


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_another_axis_is_one_moveaxis_away(axis):
    x = random((2, 6, 8, 4))
    expected = in_keras(x, groups=2, axis=axis, scale=False, center=False)
    y = group_norm(jnp.moveaxis(x, axis, -1), groups=2, eps=KERAS_EPSILON)
    np.testing.assert_allclose(jnp.moveaxis(y, -1, axis), expected, atol=1e-5)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("scale", [True, False])
def test_center_and_scale_are_use_bias_and_use_scale(center, scale):
    x, gamma, beta = random(), random((8,), 1), random((8,), 2)
    given: dict[str, Any] = {}
    if scale:
        given["scale"] = gamma
    if center:
        given["bias"] = beta
    expected = in_keras(x, *given.values(), groups=4, center=center, scale=scale)
    layer: Any = layers.GroupNorm(
        4, epsilon=KERAS_EPSILON, use_bias=center, use_scale=scale
    )
    variables = jax.eval_shape(layer.init, jax.random.key(0), x)
    assert set(variables.get("params", {})) == set(given)
    y = apply(layer, {"params": given}, x)
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_groups_of_minus_one_are_instance_norm():
    x = random()
    expected = in_keras(x, groups=-1, center=False, scale=False)
    layer = layers.InstanceNorm(epsilon=KERAS_EPSILON, use_bias=False, use_scale=False)
    np.testing.assert_allclose(apply(layer, {}, x), expected, atol=1e-5)
    with pytest.raises(ValueError, match="groups must be at least 1; got -1"):
        group_norm(x, groups=-1)


ROWS = np.array([[[-1, 1, 0, 2], [1, 3, -4, -2]]], np.float32)


def test_instance_norm_of_two_positions_is_their_order():
    y = instance_norm(ROWS, eps=KERAS_EPSILON)
    np.testing.assert_allclose(y, np.sign(ROWS - ROWS[:, ::-1]), atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 8), (1, 2, 4), (1, 2, 2, 2)], ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_vectors_rows_and_images(shape, groups):
    """One and two groups of small whole numbers, of every rank."""
    x = np.array([-1, -1, 2, 2, 1, 1, 0, -2], np.float32).reshape(shape)
    expected = in_keras(jnp.asarray(x), groups=groups, center=False, scale=False)
    exact = oracle.group_norm(x, None, None, groups, eps=KERAS_EPSILON).y
    y = group_norm(x, groups=groups, eps=KERAS_EPSILON)
    np.testing.assert_allclose(y, exact, atol=1e-6)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    if groups == 1:
        np.testing.assert_array_equal(layer_norm(x, eps=KERAS_EPSILON), y)


@pytest.mark.parametrize("value", [70_000.0, 1e6])
def test_half_precision_layers_take_float32_input_beyond_65504(value):
    """keras #22586, #22589, #23070: NaN, since the input was cast before the norm."""
    x = value * random()
    layer = layers.GroupNorm(2, dtype=jnp.float16, epsilon=KERAS_EPSILON)
    run: Any = jax.jit(lambda x: layer.init_with_output(jax.random.key(0), x)[0])
    y = run(x)
    exact = oracle.group_norm(x, None, None, 2, eps=KERAS_EPSILON).y
    assert y.dtype == jnp.float16
    np.testing.assert_allclose(y.astype(float), exact, rtol=2**-11, atol=1e-6)
    np.testing.assert_array_equal(run(jnp.full_like(x, value)), np.zeros(x.shape))


def test_scale_beyond_65504_stays_float32_in_a_half_precision_layer():
    # Data far below the root of epsilon, so that the product fits into float16.
    layer: Any = layers.GroupNorm(2, dtype=jnp.float16, epsilon=1.0)
    x, gamma = 1e-3 * random(), jnp.full(8, 70_000.0)
    params = jax.eval_shape(layer.init, jax.random.key(0), x)["params"]
    assert params["scale"].dtype == jnp.float32
    y = apply(layer, {"params": {"scale": gamma, "bias": 0 * gamma}}, x)
    exact = oracle.group_norm(x, gamma, None, 2, eps=1.0).y
    np.testing.assert_allclose(y.astype(float), exact, rtol=2**-11, atol=1e-4)


def test_an_epsilon_that_float16_flushes_to_zero():
    """keras #22586: it divided by zero."""
    x = jnp.full((2, 5, 8), 3, jnp.float16)
    np.testing.assert_array_equal(group_norm(x, groups=2, eps=1e-12), 0 * x)
    noise = x + jnp.asarray([0, 2**-9] * 4, jnp.float16)
    exact = oracle.group_norm(noise, None, None, 2, eps=1e-12).y
    y = group_norm(noise, groups=2, eps=1e-12)
    np.testing.assert_allclose(y.astype(float), exact, rtol=2**-11)


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        (0, ValueError, "groups must be at least 1"),
        (-2, ValueError, "groups must be at least 1"),
        (1.5, TypeError, r"groups must be an int .* got 1\.5"),
        ("32", TypeError, "groups must be an int .* got '32'"),
        (5, ValueError, "groups=5 must divide the number of channels"),
        (3, ValueError, r"groups=3 must divide .* Divisors: 1, 2, 4\."),
    ],
)
def test_bad_groups(groups, error, message):
    with pytest.raises(error, match=message):
        group_norm(np.ones((2, 2, 2, 4), np.float32), groups=groups)


def test_an_undefined_number_of_channels():
    symbolic = jax.export.symbolic_shape("n, 2, 2, c")
    x = jax.ShapeDtypeStruct(symbolic, jnp.float32)
    with pytest.raises(ValueError, match="fixed number of channels; got the symbolic"):
        jax.eval_shape(lambda x: group_norm(x, groups=2), x)


def test_keras_gives_more_than_the_bias_for_a_constant():
    x = jnp.full((2, 32, 32, 8), 123.456, jnp.float32)
    theirs = in_keras(x, groups=2, epsilon=1e-5, center=False, scale=False)
    assert np.abs(theirs).max() > 0.1
    np.testing.assert_array_equal(group_norm(x, groups=2), 0 * x)


@pytest.mark.parametrize(("mean", "floor"), [(100, 1e-5), (1e4, 1e-3)])
def test_keras_loses_the_digits_that_the_mean_takes_up(mean, floor):
    x = random((2, 32, 32, 16)) + mean
    exact = oracle.group_norm(x, None, None, 2).y
    theirs = in_keras(x, groups=2, epsilon=1e-5, center=False, scale=False)
    assert np.abs(theirs - exact).max() > floor * np.abs(exact).max()
    ours = group_norm(x, groups=2)
    assert np.abs(ours - exact).max() < 5e-6 * np.abs(exact).max()
