"""What users of other group norms asked for, each with the issue that asks.

Masks are in test_mask.py, activations and memory in test_residuals.py, sizes and half
precision of torch's users in test_torch_cases.py.
"""

from typing import Any

import equinox
import haiku
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from flax_gn import group_norm, group_stats, layer_norm
from flax_gn import linen as layers
from tests import oracle
from tests.variables import apply, random, randomized


def error(y, x, groups=2, **options):
    """Largest error beside the largest value of the exact result."""
    expected = oracle.group_norm(x, None, None, groups, **options).y
    return np.abs(np.asarray(y, np.float64) - expected).max() / np.abs(expected).max()


def in_linen(x, *, fast=True):
    layer = nn.GroupNorm(
        2, epsilon=1e-5, use_fast_variance=fast, use_scale=False, use_bias=False
    )
    return layer.apply({}, x)


def in_haiku(x):
    def run(x):
        return haiku.GroupNorm(2, create_scale=False, create_offset=False)(x)

    return haiku.transform(run).apply({}, None, x)


def in_equinox(x):
    norm = equinox.nn.GroupNorm(2, x.shape[-1])
    return jnp.moveaxis(jax.vmap(norm)(jnp.moveaxis(x, -1, 1)), 1, -1)


PEERS = {
    "linen": (in_linen, {100: 1e-3, 1000: 10, 10_000: 10}),
    "linen_two_pass": (lambda x: in_linen(x, fast=False), {1000: 1e-5, 10_000: 1e-4}),
    "haiku": (in_haiku, {1000: 1e-5, 10_000: 1e-4}),
    "equinox": (in_equinox, {10_000: 1e-5}),
}


@pytest.mark.parametrize(("peer", "floors"), PEERS.values(), ids=PEERS)
@jax.numpy_rank_promotion("allow")
@jax.numpy_dtype_promotion("standard")
def test_the_mean_costs_the_peers_their_digits(peer, floors):
    """Why users ask for a variance that is not E[x^2] - E[x]^2; keras took it over
    from Flax (keras-core #866)."""
    for mean, floor in floors.items():
        x = random((2, 32, 32, 16)) + mean
        assert error(jax.jit(peer)(x), x) > floor
        assert error(group_norm(x, groups=2), x) <= 5e-6


def test_the_variance_is_not_negative():
    """flax #1491, jax #30426, Paddle #16654: its root is NaN."""
    x = (1e4 + 0.01 * np.array(random((64, 256, 4)))).astype(np.float32)
    naive = jax.jit(lambda x: (x**2).mean((1, 2)) - x.mean((1, 2)) ** 2)(x)
    assert naive.min() < 0
    _, var = group_stats(x, 1)
    exact = x.astype(np.float64).var((1, 2))[:, None]
    np.testing.assert_allclose(var, exact, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_variance_is_not_lost_at_a_mean_of_ten_thousand_deviations(dtype):
    """pytorch #40302: data from N(100, 0.01) came out with variance 0."""
    x = (100 + 0.01 * np.array(random((2, 64, 64, 8)))).astype(dtype)
    _, var = group_stats(x, 2)
    exact = x.astype(np.float64).reshape(2, 4096, 2, 4).var((1, 3))
    np.testing.assert_allclose(var, exact, rtol=1e-4)


@pytest.mark.parametrize("mean", [0.5, 1000.5])
def test_a_group_of_four_million_values(mean):
    """pytorch #54293: the CPU was 0.0121 off on uniform values."""
    rng = np.random.default_rng(0)
    x = rng.random((1, 1 << 20, 4), np.float32) + np.float32(mean - 0.5)
    assert error(group_norm(x, groups=1), x, 1) <= 5e-6


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_moments_of_half_precision_are_not_half_precision(dtype):
    """pytorch #77507, and #183946, where a compiled kernel cut the statistics to
    bfloat16 half way. The sum of a group here is 1e6, beyond float16."""
    x = random((2, 64, 64, 8)).astype(dtype) + jnp.asarray(64, dtype)

    @jax.jit
    def among_others(x):
        return group_norm(x * 2, groups=2) * 2

    exact = oracle.group_norm(np.asarray(x, float) * 2, None, None, 2).y
    rounded = 2 * exact.astype(dtype).astype(np.float64)
    ulp = 2 * np.spacing(np.abs(exact).astype(np.float32)) * 2.0**23
    ulp *= float(jnp.finfo(dtype).eps)
    y = np.asarray(among_others(x), np.float64)
    assert np.all(np.abs(y - rounded) <= ulp)  # a tie may go either way
    assert np.mean(y != rounded) < 0.01


def test_values_of_1e30_are_had_by_a_power_of_two():
    """pytorch #178123, closed unmerged: squares of float32 end at 1e38, so deviations
    do at 1e19. A power of two loses no digit, and eps is nothing beside the rest."""
    x = np.float32(1e30) * random((2, 33, 8))
    assert not np.isfinite(group_norm(x, groups=2)).all()
    y = group_norm(jnp.ldexp(x, -100), groups=2, eps=1e-30)
    assert error(y, np.asarray(x, np.float64) / 1e30, eps=1e-30) < 1e-6


@pytest.mark.parametrize("parameters", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_parameters_and_data_may_have_different_dtypes(dtype, parameters):
    """pytorch #81852, #88663: refused there, or slow."""
    x, gamma = random((2, 5, 8), dtype=dtype), random((8,), 1, parameters)

    @jax.jit
    def f(x, gamma):
        y, pullback = jax.vjp(lambda x, gamma: group_norm(x, gamma, groups=2), x, gamma)
        return y, *pullback(y)

    y, *gradients = f(x, gamma)
    assert (y.dtype, *(g.dtype for g in gradients)) == (dtype, dtype, parameters)
    expected = oracle.group_norm(x, gamma, None, 2).y
    rounding = float(jnp.finfo(dtype).eps) / 2
    np.testing.assert_allclose(y.astype(float), expected, rtol=rounding, atol=2e-6)


def test_layer_norm_says_what_it_covers():
    """flax #3664. The paper's covers height, width and channels; the transformer's the
    channels alone."""
    x = random()
    options: dict[str, Any] = {"use_scale": False, "use_bias": False}
    papers = apply(nn.LayerNorm(reduction_axes=(1, 2, 3), **options), {}, x)
    transformers = apply(nn.LayerNorm(**options), {}, x)
    np.testing.assert_allclose(layer_norm(x, eps=1e-6), papers, atol=1e-6)
    np.testing.assert_allclose(
        layer_norm(x, eps=1e-6, reduction_axes=-1), transformers, atol=1e-5
    )
    assert jnp.abs(papers - transformers).max() > 0.1


def test_unbatched_images_of_robot_learning():
    """SERL, jaxrl2, jaxrl5 and Octo each carry a group norm for (H, W, C), which Flax
    takes for H samples of one row without a word."""
    x = random((6, 5, 8))
    layer = layers.GroupNorm(2, reduction_axes=(-3, -2, -1))
    variables = randomized(layer, x)
    y = apply(layer, variables, x)
    batched = apply(nn.GroupNorm(2), variables, x[None])
    np.testing.assert_allclose(y, batched[0], atol=1e-5)
    rows = apply(nn.GroupNorm(2), variables, x)
    assert jnp.abs(y - rows).max() > 0.1
    np.testing.assert_allclose(apply(layer, variables, x[None])[0], y, atol=1e-6)


@pytest.mark.parametrize("rank", [2, 3, 4, 5])
@pytest.mark.parametrize("options", [{}, {"num_groups": None, "group_size": 4}])
def test_parameter_shapes_are_a_promise(rank, options):
    """vision_transformer #156: checkpoints of (1, 1, 1, C) stopped to load."""
    layer = layers.GroupNorm(**({"num_groups": 2} | options))
    x = jax.ShapeDtypeStruct((2,) * (rank - 1) + (8,), jnp.float32)
    params = jax.eval_shape(layer.init, jax.random.key(0), x)["params"]
    assert jax.tree.map(jnp.shape, params) == {"scale": (8,), "bias": (8,)}


def test_another_epsilon_shows_in_other_peoples_weights():
    """big_vision's note. The default of the layer is Flax's, of the function the
    paper's, and either is carried over exactly."""
    x = 0.01 * random()
    variables = randomized(layers.GroupNorm(2), x)
    scale, bias = variables["params"]["scale"], variables["params"]["bias"]
    flax = apply(nn.GroupNorm(2), variables, x)
    torch = apply(nn.GroupNorm(2, epsilon=1e-5), variables, x)
    assert jnp.abs(flax - torch).max() > 0.01
    ours = apply(layers.GroupNorm(2), variables, x)
    np.testing.assert_allclose(ours, flax, atol=1e-5)
    np.testing.assert_allclose(group_norm(x, scale, bias, 2), torch, atol=1e-5)
