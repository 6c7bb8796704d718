"""Faults of other group norms: what they do, and that it does not happen here.

Where the peer is installed, the test shows the fault beside the right answer, so that
the claim is dropped from docs/peers.md on the day it stops being true.
"""

from typing import Any

import equinox
import haiku
import jax
import jax.numpy as jnp
import numpy as np
import onnx.parser
import pytest
from flax import linen as nn
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from onnx.reference import ReferenceEvaluator

from flax_gn import group_norm
from flax_gn import linen as layers
from tests import oracle
from tests.variables import random, randomized


@pytest.fixture(autouse=True)
def no_implicit_promotion():
    """The peers mix dtypes and ranks."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def applied(layer: nn.Module, x, seed=1, **call) -> Any:
    return jax.jit(layer.apply)(randomized(layer, x, seed), x, **call)


def error(y, x, groups=2, **options):
    """Largest error beside the largest value of the exact result."""
    expected = oracle.group_norm(x, None, None, groups, **options).y
    return np.abs(np.asarray(y, np.float64) - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("fast", [True, False])
def test_flax_gives_more_than_the_bias_for_a_constant(fast):
    x = jnp.full((2, 32, 32, 64), 123.456, jnp.float32)
    theirs: Any = nn.GroupNorm(8, use_fast_variance=fast, use_bias=False)
    assert np.abs(applied(theirs, x)).max() > 1e-4
    ours = layers.GroupNorm(8)
    bias = randomized(ours, x)["params"]["bias"]
    np.testing.assert_array_equal(applied(ours, x), jnp.broadcast_to(bias, x.shape))


def test_flax_refuses_a_mask_that_broadcasts_along_the_channels():
    x = random((2, 5, 8))
    mask = np.random.default_rng(0).random((2, 5, 1)) < 0.6
    with pytest.raises((TypeError, ValueError), match="reshape"):
        applied(nn.GroupNorm(2), x, mask=mask)
    full = np.broadcast_to(mask, x.shape)
    expected = applied(nn.GroupNorm(2), x, mask=full)[full]
    for shown in (mask, mask[..., 0]):
        y = applied(layers.GroupNorm(2), x, mask=shown)
        np.testing.assert_allclose(y[full], expected, atol=1e-5)


def test_flax_gives_nan_where_a_sample_is_masked_wholly():
    x, mask = random((2, 5, 8)), np.ones((2, 5, 8), bool)
    mask[0] = False
    theirs = applied(nn.GroupNorm(2), x, mask=mask)
    assert np.isnan(theirs[0]).all()
    ours = applied(layers.GroupNorm(2), x, mask=mask)
    bias = randomized(layers.GroupNorm(2), x)["params"]["bias"]
    np.testing.assert_array_equal(ours[0], jnp.broadcast_to(bias, (5, 8)))
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-5)


def test_flax_lets_nan_out_of_masked_positions():
    x, mask = np.array(random((2, 5, 8))), np.ones((2, 5, 8), bool)
    mask[:, 2] = False
    x[:, 2] = np.nan

    def gradient(layer):
        return jax.grad(
            lambda p: jnp.where(mask, layer.apply(p, x, mask=mask), 0).sum()
        )(randomized(layer, x))["params"]["scale"]

    assert np.isnan(applied(nn.GroupNorm(2), x, mask=mask)).any()
    assert np.isnan(gradient(nn.GroupNorm(2))).all()
    assert np.isfinite(applied(layers.GroupNorm(2), x, mask=mask)).all()
    assert np.isfinite(gradient(layers.GroupNorm(2))).all()


def test_flax_averages_devices_that_keep_unequal_numbers():
    x = np.array(random((2, 1, 64, 8)))
    x[1] += 3
    mask = np.ones(x.shape, bool)
    mask[1, :, 4:] = False
    whole = np.concatenate(list(x), 1), np.concatenate(list(mask), 1)
    expected = oracle.group_norm(whole[0], None, None, 2, eps=1e-6, mask=whole[1]).y

    def apart(library):
        layer = library.GroupNorm(2, axis_name="d", use_scale=False, use_bias=False)
        y = jax.pmap(
            lambda x, mask: layer.apply({}, x, mask=mask),
            "d",
            devices=jax.devices()[:2],
        )(x, mask)
        return np.abs((np.concatenate(list(y), 1) - expected)[whole[1]]).max()

    assert apart(nn) > 0.5
    assert apart(layers) < 1e-5


def test_haiku_takes_the_statistics_of_bfloat16_in_bfloat16():
    x = random((2, 32, 32, 64), dtype=jnp.bfloat16) + 3

    def run(x):
        return haiku.GroupNorm(8, create_scale=False, create_offset=False)(x)

    theirs = haiku.transform(run).apply({}, None, x)
    exact = oracle.group_norm(x, None, None, 8).y
    rounding = np.abs(exact.astype(jnp.bfloat16).astype(float) - exact).max()
    assert np.abs(np.asarray(theirs, float) - exact).max() > 2 * rounding
    ours = np.abs(np.asarray(group_norm(x, groups=8), float) - exact).max()
    assert ours <= 1.01 * rounding


@pytest.mark.parametrize(
    ("arguments", "theirs", "ours", "named"),
    [
        ({"num_groups": 2.0}, AssertionError, TypeError, "groups"),
        ({"num_groups": None, "group_size": 0}, ZeroDivisionError, ValueError, "size"),
        ({"num_groups": 2, "epsilon": -1.0}, None, ValueError, "epsilon"),
    ],
)
def test_flax_does_not_name_the_bad_argument(arguments, theirs, ours, named):
    x = random((2, 5, 8))
    if theirs is None:
        assert np.isnan(applied(nn.GroupNorm(**arguments), x / 100)).any()
    else:
        with pytest.raises(theirs) as caught:
            applied(nn.GroupNorm(**arguments), x)
        assert named not in str(caught.value)
    with pytest.raises(ours, match=f"{named}[ =]"):
        applied(layers.GroupNorm(**arguments), x)


def test_flax_refuses_a_numpy_integer():
    two: Any = np.int64(2)
    with pytest.raises(AssertionError):
        applied(nn.GroupNorm(two), random())
    np.testing.assert_array_equal(
        applied(layers.GroupNorm(two), random()),
        applied(layers.GroupNorm(2), random()),
    )


def test_flax_refuses_reduction_axes_by_the_order_of_a_set():
    x = random((1, 3, 1, 1, 2, 1, 1, 1, 8))
    with pytest.raises(ValueError, match="final dimension"):
        applied(nn.GroupNorm(2, reduction_axes=(1, -1)), x)
    y = group_norm(x, groups=2, reduction_axes=(1, -1))
    assert error(y, x, reduction_axes=(1, -1)) < 1e-6


@pytest.mark.parametrize(("axes", "off"), [((-1,), 100), ((2, 3), 3)])
def test_flax_nnx_scrambles_statistics_that_keep_a_spatial_axis(axes, off):
    x, variables = random((2, 4, 4, 8)), randomized(layers.GroupNorm(2), random())
    linen = nn.GroupNorm(2, reduction_axes=axes, use_fast_variance=False)
    expected: Any = linen.apply(variables, x)
    theirs: Any = nnx.GroupNorm(8, 2, reduction_axes=axes, rngs=nnx.Rngs(0))
    nnx.update(theirs, variables["params"])
    assert np.abs(theirs(x) - expected).max() > off
    ours: Any = layers.GroupNorm(2, reduction_axes=axes).apply(variables, x)
    np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_flax_cannot_run_where_the_channels_are_sharded_explicitly():
    x = random((2, 4, 4, 16))
    mesh = jax.make_mesh((4,), ("c",), axis_types=(AxisType.Explicit,))
    spec = PartitionSpec(None, None, None, "c")
    with jax.set_mesh(mesh):
        split = jax.device_put(x, NamedSharding(mesh, spec))
        with pytest.raises(ValueError, match=r"pass sharding to `jnp\.repeat`"):
            nn.GroupNorm(4, use_scale=False, use_bias=False).apply({}, split)
        y = jax.jit(lambda x: group_norm(x, groups=4))(split)
    assert y.sharding.spec == spec
    assert error(y, x, 4) < 1e-6


def kept(f, x):
    """Bytes that the backward pass keeps, beside those of x."""
    _, pullback = jax.vjp(jax.jit(f), x)
    leaves = {id(a): a for a in jax.tree.leaves(pullback) if hasattr(a, "nbytes")}
    return sum(a.nbytes for a in leaves.values()) / x.nbytes


def test_flax_haiku_and_equinox_keep_several_arrays_for_the_backward_pass():
    x = random((2, 32, 32, 64), dtype=jnp.bfloat16)

    def in_haiku(x):
        layer = haiku.GroupNorm(8, create_scale=False, create_offset=False)
        return jax.nn.silu(layer(x))

    def in_equinox(x):
        y = jax.vmap(equinox.nn.GroupNorm(8, 64))(jnp.moveaxis(x, -1, 1))
        return jax.nn.silu(jnp.moveaxis(y, 1, -1))

    flax: Any = nn.GroupNorm(8, use_scale=False, use_bias=False)
    assert kept(lambda x: nn.silu(flax.apply({}, x)), x) > 5
    assert kept(lambda x: haiku.transform(in_haiku).apply({}, None, x), x) > 5
    assert kept(in_equinox, x) > 5
    assert kept(lambda x: group_norm(x, groups=8, activation="silu"), x) <= 1.05


def test_onnx_had_scale_and_bias_per_group_before_opset_21():
    """What docs/migration.md says to do with such a model."""
    x = np.array(random((2, 8, 3, 3)))
    scale, bias = np.random.default_rng(0).standard_normal((2, 2)).astype(np.float32)
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18]>
        norm (float[2,8,3,3] x, float[2] scale, float[2] bias) => (float[2,8,3,3] y) {
          y = GroupNormalization <num_groups = 2> (x, scale, bias)
        }"""
    )
    given = {"x": x, "scale": scale, "bias": bias}
    expected: Any = ReferenceEvaluator(model).run(None, given)
    y = group_norm(np.moveaxis(x, 1, -1), np.repeat(scale, 4), np.repeat(bias, 4), 2)
    np.testing.assert_allclose(jnp.moveaxis(y, -1, 1), expected[0], atol=1e-5)


def test_published_sharded_norms_merged_variances_wrongly_and_refused_uneven_parts():
    """physicsnemo #1380, #1393, #1421. The parts have different means; 13 rows lie on 8
    devices as 16, of which a mask hides the last 3."""
    x = np.array(random((2, 16, 3, 8))) + 10 * np.arange(16)[:, None, None]
    x, mask = x.astype(np.float32), np.arange(16)[:, None] < 13
    expected = oracle.group_norm(x[:, :13], None, None, 2).y

    def part(x, mask):
        return group_norm(x, groups=2, mask=mask[None], axis_name="rows")

    y = jax.pmap(part, "rows", in_axes=(1, 0), out_axes=1)(
        x.reshape(2, 8, 2, 3, 8), mask.reshape(8, 2, 1)
    )
    y = y.reshape(2, 16, 3, 8)[:, :13]
    np.testing.assert_allclose(y, expected, atol=1e-5)
