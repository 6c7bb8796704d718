"""The behaviours that Flax's own tests of its norms assert, for both layers here.

Each test is named for the behaviour: tests/linen/linen_test.py (NormalizationTest) and
tests/nnx/nn/normalization_test.py of google/flax at 18f8f31, July 2026.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from flax_gn import linen as linen_layers
from flax_gn import nnx as nnx_layers
from tests import oracle
from tests.variables import apply, random

PLAIN: dict[str, Any] = {"use_scale": False, "use_bias": False, "epsilon": 1e-5}
UNIFORM: dict[str, Any] = {
    "scale_init": nn.initializers.uniform(),
    "bias_init": nn.initializers.uniform(),
}


def in_linen(name, channels, **options) -> Any:
    del channels
    layer = getattr(linen_layers, name)(**options)
    return lambda x, **call: layer.init_with_output(jax.random.key(0), x, **call)[0]


def in_nnx(name, channels, **options) -> Any:
    return getattr(nnx_layers, name)(channels, rngs=nnx.Rngs(0), **options)


over_libraries = pytest.mark.parametrize(
    "make", [in_linen, in_nnx], ids=["linen", "nnx"]
)


def by_definition(x, groups, axes):
    """Statistics over ``axes`` and the channels of each group, in float64."""
    split = np.asarray(x, np.float64).reshape(*x.shape[:-1], groups, -1)
    axes = (*axes, split.ndim - 1)
    centred = split - split.mean(axes, keepdims=True)
    y = centred / np.sqrt(split.var(axes, keepdims=True) + 1e-5)
    return y.reshape(x.shape)


def check(y, x, expected, atol=1e-5):
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    np.testing.assert_allclose(y, expected, atol=atol)


@over_libraries
def test_group_norm_normalises_over_space_and_the_channels_of_a_group(make):
    x = random((2, 5, 4, 4, 32))
    y = make("GroupNorm", 32, num_groups=2, **PLAIN)(x)
    check(y, x, by_definition(x, 2, (1, 2, 3)))


@over_libraries
def test_reduction_axes_may_leave_one_axis_of_an_unbatched_array_out(make):
    x = random((2, 5, 4, 4, 32))
    options = PLAIN | {"reduction_axes": (0, 1, 3, 4)}
    y = make("GroupNorm", 32, num_groups=2, **options)(x)
    check(y, x, by_definition(x, 2, (0, 1, 3)))


@over_libraries
def test_negative_reduction_axes_hold_for_one_example_and_for_a_batch(make):
    x = random((3, 4, 32))
    layer = make("GroupNorm", 32, num_groups=2, reduction_axes=(-3, -2, -1), **PLAIN)
    batch = jnp.stack([x] * 5)
    check(layer(batch), batch, by_definition(batch, 2, (1, 2)))
    np.testing.assert_allclose(layer(batch)[0], layer(x), atol=1e-6)


@over_libraries
def test_a_number_of_groups_that_does_not_divide_is_refused(make):
    with pytest.raises(ValueError, match="groups=3 must divide"):
        make("GroupNorm", 32, num_groups=3, **PLAIN)(random((2, 5, 4, 4, 32)))


@over_libraries
def test_reduction_axes_without_the_channels_are_refused(make):
    layer = make("GroupNorm", 32, num_groups=2, reduction_axes=(0, 1, 2, 3), **PLAIN)
    with pytest.raises(ValueError, match="must include the channel axis"):
        layer(random((2, 5, 4, 4, 32)))


@over_libraries
def test_masked_values_may_be_nan_and_the_others_have_mean_0_and_variance_1(make):
    rng = np.random.default_rng(0)
    mask = rng.random((13, 3, 5, 7 * 11)) < 0.5
    mask[..., :2] = True
    x = jnp.where(mask, random(mask.shape), jnp.nan)
    y = np.asarray(make("GroupNorm", 77, num_groups=7, **PLAIN)(x, mask=mask))
    y, kept = (a.reshape(13, 15, 7, 11) for a in (y, mask))
    np.testing.assert_allclose(y.mean((1, 3), where=kept), 0, atol=1e-6)
    np.testing.assert_allclose(y.var((1, 3), where=kept), 1, atol=1e-4)
    np.testing.assert_array_equal(y[~kept], 0)


@over_libraries
def test_layer_norm_takes_a_mask_over_channels(make):
    mask = np.random.default_rng(0).random((3, 4, 5)) < 0.5
    mask[..., :2] = True
    x = jnp.where(mask, random(mask.shape), jnp.nan)
    options = PLAIN | {"epsilon": 1e-6, "reduction_axes": -1}
    y = np.asarray(make("LayerNorm", 5, **options)(x, mask=mask))
    np.testing.assert_allclose(y.mean(-1, where=mask), 0, atol=1e-6)
    np.testing.assert_allclose(y.var(-1, where=mask), 1, atol=1e-4)


@over_libraries
@pytest.mark.parametrize("mean", [0, 1e6])
@pytest.mark.parametrize("axes", [-1, (1, 2), (0, 1, 2)], ids=str)
def test_layer_norm_over_any_axes_with_the_channels(make, axes, mean):
    x = random((2, 3, 4)) + mean
    y = make("LayerNorm", 4, reduction_axes=axes, **PLAIN)(x)
    reduced = oracle.reduced_axes(3, axes)
    check(y, x, by_definition(x, 1, reduced))


@over_libraries
def test_layer_norm_over_space_alone_is_instance_norm_and_refused_by_its_axes(make):
    x = random((2, 3, 4))
    with pytest.raises(ValueError, match="must include the channel axis"):
        make("LayerNorm", 4, reduction_axes=1, **PLAIN)(x)
    expected = apply(nn.LayerNorm(reduction_axes=1, **PLAIN), {}, x)
    check(make("InstanceNorm", 4, **PLAIN)(x), x, expected)


@over_libraries
@pytest.mark.parametrize("mean", [0, 1e4])
@pytest.mark.parametrize(
    ("name", "axes", "flaxs_feature_axes"),
    [
        ("InstanceNorm", None, -1),
        ("InstanceNorm", (2, 3), (1, 3)),
        ("LayerNorm", -1, (1, 2)),
        ("InstanceNorm", -1, (1, 2, 3)),  # groups of one value
    ],
)
def test_instance_norm_over_what_is_no_feature(
    make, name, axes, flaxs_feature_axes, mean
):
    x = random((2, 3, 4, 5)) + mean
    flax = nn.InstanceNorm(
        feature_axes=flaxs_feature_axes, use_fast_variance=False, **PLAIN
    )
    expected = apply(flax, {}, x)
    y = make(name, 5, reduction_axes=axes, **PLAIN)(x)
    check(y, x, expected, atol=5e-3 if mean else 1e-5)  # Flax rounds the mean


@pytest.mark.parametrize(
    ("flax", "ours"),
    [
        (nn.LayerNorm(reduction_axes=(1, 2, 3), **UNIFORM), linen_layers.LayerNorm),
        (nn.GroupNorm(num_groups=1, **UNIFORM), linen_layers.LayerNorm),
        (nn.InstanceNorm(**UNIFORM), linen_layers.InstanceNorm),
        (nn.GroupNorm(None, group_size=1, **UNIFORM), linen_layers.InstanceNorm),
    ],
    ids=["layer_norm", "one_group", "instance_norm", "group_size_1"],
)
def test_layer_and_instance_norm_are_the_ends_of_group_norm(flax: Any, ours):
    """From one key: the same parameters, and the same output."""
    x = random((2, 3, 4, 5))
    (y, variables), (expected, theirs) = (
        jax.jit(f.init_with_output)(jax.random.key(1), x)
        for f in (ours(**UNIFORM), flax)
    )
    jax.tree.map(np.testing.assert_array_equal, variables, theirs)
    np.testing.assert_allclose(y, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["GroupNorm", "LayerNorm", "InstanceNorm"])
@pytest.mark.parametrize(
    ("dtype", "param_dtype"),
    [("float16", "float32"), ("float32", "float16"), ("float16", "float16")],
)
@pytest.mark.parametrize("masked", [False, True])
def test_linen_and_nnx_are_equal_in_half_precision_and_under_a_mask(
    name, dtype, param_dtype, masked
):
    options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype}
    if name == "GroupNorm":
        options["num_groups"] = 3
    x = random((10, 6))
    mask = np.array([[True, False, True, False, True, False]]) if masked else None
    y, twin = (make(name, 6, **options)(x, mask=mask) for make in (in_linen, in_nnx))
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, twin)


@over_libraries
def test_a_mask_may_be_of_the_channels_alone(make):
    x, mask = random((10, 6)), np.array([True, False, True, True, True, False])
    layer = make("GroupNorm", 6, num_groups=3, **PLAIN)
    expected = apply(nn.GroupNorm(num_groups=3, **PLAIN), {}, x, mask=mask)
    for given in (mask, mask[None], mask.astype("int32"), mask.astype("float32")):
        y = layer(x, mask=given)
        np.testing.assert_allclose(y[:, mask], expected[:, mask], atol=1e-5)
