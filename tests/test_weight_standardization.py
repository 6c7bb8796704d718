"""weight_standardize against numpy, and the convolutions that use it against Flax's."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax.test_util import check_grads

import flax_gn
from flax_gn import linen as linen_layers
from flax_gn import nnx as nnx_layers
from tests import tolerances

KERNELS = [(5, 7), (3, 4, 8), (3, 3, 4, 8), (7, 7, 3, 16), (3, 3, 3, 2, 6)]


def kernel(shape, dtype="float32", mean=0.0, deviation=0.05):
    rng = np.random.default_rng(sum(shape))
    return (mean + deviation * rng.standard_normal(shape)).astype(jnp.dtype(dtype))


def expected(w, eps, mask=None):
    """The equations in float64."""
    w = np.asarray(w, np.float64)
    used = np.broadcast_to(True if mask is None else mask, w.shape)
    axes = tuple(range(w.ndim - 1))
    mean = np.mean(w, axes, where=used, keepdims=True)
    mean = mean + np.mean(w - mean, axes, where=used, keepdims=True)
    var = np.mean((w - mean) ** 2, axes, where=used, keepdims=True)
    return np.where(used, (w - mean) / np.sqrt(var + eps), 0)


def assert_standardized(actual, w, eps, mask=None):
    want = expected(w, eps, mask)
    m = w.size // w.shape[-1]
    bound = tolerances.relative(w.dtype, m) * (1 + np.abs(want))
    tolerances.assert_close(
        actual, want, bound + tolerances.unit(w.dtype) * np.abs(want)
    )


@pytest.mark.parametrize("shape", KERNELS, ids=str)
@pytest.mark.parametrize("eps", [1e-10, 1e-8, 1e-6, 1e-5])
def test_matches_the_equations(shape, eps):
    w = kernel(shape)
    assert_standardized(flax_gn.weight_standardize(w, eps=eps), w, eps)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_keeps_the_dtype(dtype):
    w = kernel((3, 3, 4, 8), dtype)
    result = flax_gn.weight_standardize(w)
    assert result.dtype == w.dtype
    assert_standardized(result, w, 1e-10)


def test_is_accurate_when_the_mean_is_large():
    # E[w^2] - E[w]^2 in float32 has no digit left here.
    w = kernel((3, 3, 16, 8), mean=100.0)
    assert_standardized(flax_gn.weight_standardize(w), w, 1e-10)


def test_equal_weights_become_zero():
    result = flax_gn.weight_standardize(jnp.full((3, 3, 2, 4), 123.456))
    np.testing.assert_array_equal(result, 0)


def test_single_weights_become_zero():
    np.testing.assert_array_equal(flax_gn.weight_standardize(kernel((1, 1, 1, 4))), 0)


def test_output_axis_of_torch():
    w = kernel((3, 3, 4, 8))
    result = flax_gn.weight_standardize(w.transpose(3, 2, 0, 1), output_axis=0)
    np.testing.assert_allclose(
        result.transpose(2, 3, 1, 0), flax_gn.weight_standardize(w), atol=1e-6
    )


def test_mask_keeps_unused_weights_out():
    w = kernel((3, 3, 4, 8))
    mask = np.random.default_rng(0).random(w.shape) < 0.5
    result = flax_gn.weight_standardize(np.where(mask, w, np.nan), mask=mask)
    assert_standardized(result, w, 1e-10, mask)


def test_mask_moves_with_the_output_axis():
    w = kernel((8, 4, 3, 3))
    mask = np.random.default_rng(0).random(w.shape) < 0.5
    result = flax_gn.weight_standardize(w, output_axis=0, mask=mask)
    want = expected(np.moveaxis(w, 0, -1), 1e-10, np.moveaxis(mask, 0, -1))
    np.testing.assert_allclose(jnp.moveaxis(result, 0, -1), want, atol=1e-5)


def test_gradients_in_both_modes_and_of_second_order():
    with jax.enable_x64(True):
        w = jnp.asarray(kernel((3, 2, 4), "float64", deviation=1.0))
        check_grads(flax_gn.weight_standardize, (w,), order=2)


def test_vmap_is_a_loop():
    ws = np.stack([kernel((3, 3, 2, 4), mean=mean) for mean in (0.0, 1.0)])
    mapped = jax.vmap(flax_gn.weight_standardize)(ws)
    for one, w in zip(mapped, ws, strict=True):
        assert_standardized(one, w, 1e-10)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.ones(3, "float32"), {}), ValueError, "an input and an output axis"),
        ((np.ones((3, 4), "float32"), {"output_axis": 2}), ValueError, "output_axis=2"),
        (
            (np.ones((3, 4), "int32"), {}),
            TypeError,
            "weight_standardize: kernel must be floating-point",
        ),
        (
            (np.ones((3, 4), "float32"), {"eps": -1.0}),
            ValueError,
            "weight_standardize: eps must be 0, or positive",
        ),
        (
            (np.ones((3, 4), "float32"), {"mask": np.ones((2, 4), bool)}),
            ValueError,
            "mask must broadcast",
        ),
    ],
)
def test_bad_calls_say_what_is_wrong(arguments, error, message):
    w, options = arguments
    with pytest.raises(error, match=message):
        flax_gn.weight_standardize(w, **options)


def outside(w, eps):
    """The layers of big_vision's bit.py, of vision_transformer and of Octo, in float64.

    All three subtract the mean and divide by jnp.std, which is biased, plus 1e-5.
    """
    w = np.asarray(w, np.float64)
    axes = tuple(range(w.ndim - 1))
    return (w - w.mean(axes)) / (w.std(axes) + eps)


@pytest.mark.parametrize("deviation", [1.0, 0.05, 1e-3, 1e-5, 1e-8])
@pytest.mark.parametrize("shape", KERNELS, ids=str)
def test_epsilon_outside_the_root_is_that_of_others(shape, deviation):
    w = kernel(shape, deviation=deviation)
    result = flax_gn.weight_standardize(w, eps=1e-5, outside_root=True)
    np.testing.assert_allclose(result, outside(w, 1e-5), rtol=1e-5, atol=2e-6)
    inside = flax_gn.weight_standardize(w, eps=1e-10)
    if deviation == 1e-3:
        assert np.abs(inside - result).max() > 5e-3  # what the option is for


@pytest.mark.parametrize("eps", [0.0, 1e-30, 1e-5, 0.5])
def test_epsilon_outside_the_root_may_be_any(eps):
    w = kernel((3, 3, 4, 8), deviation=1.0)
    result = flax_gn.weight_standardize(w, eps=eps, outside_root=True)
    np.testing.assert_allclose(result, outside(w, eps), rtol=1e-5, atol=2e-6)


def test_epsilon_outside_the_root_under_a_mask_and_for_torchs_axes():
    w = kernel((3, 3, 4, 8), deviation=1e-4)
    mask = np.random.default_rng(0).random(w.shape) < 0.5
    want = np.stack(
        [
            np.where(m, (v - v[m].mean()) / (v[m].std() + 1e-5), 0)
            for v, m in zip(
                np.moveaxis(w.astype(np.float64), -1, 0),
                np.moveaxis(mask, -1, 0),
                strict=True,
            )
        ]
    )
    options: dict[str, Any] = {"eps": 1e-5, "outside_root": True}
    result = flax_gn.weight_standardize(w, mask=mask, **options)
    np.testing.assert_allclose(jnp.moveaxis(result, -1, 0), want, rtol=1e-5, atol=2e-6)
    moved = flax_gn.weight_standardize(
        np.moveaxis(w, -1, 0), mask=np.moveaxis(mask, -1, 0), output_axis=0, **options
    )
    np.testing.assert_allclose(moved, want, rtol=1e-5, atol=2e-6)


def test_epsilon_outside_the_root_has_a_gradient_everywhere():
    with jax.enable_x64(True):
        w = jnp.asarray(kernel((3, 2, 4), "float64", deviation=1.0))

        def standardize(w):
            return flax_gn.weight_standardize(w, eps=0.1, outside_root=True)

        check_grads(standardize, (w,), order=2)
        # The root has none where weights are equal; theirs is NaN there.
        equal, pull = jax.vjp(standardize, jnp.full_like(w, 3.0))
        (gradient,) = pull(w)
    np.testing.assert_array_equal(equal, 0)
    want = (np.asarray(w) - np.asarray(w).mean((0, 1))) / 0.1
    np.testing.assert_allclose(gradient, want, rtol=1e-10)


class StdConv(linen_layers.WSConv):
    """As docs/migration.md has it, to keep the name of a checkpoint."""

    epsilon: float = 1e-5
    outside_root: bool = True


class TheirStdConv(nn.Conv):
    """That of the three, in words of its own."""

    def param(self, name: str, *args: Any, **kwargs: Any) -> Any:
        value: Any = super().param(name, *args, **kwargs)
        if name == "kernel":
            value = value - value.mean((0, 1, 2), keepdims=True)
            value = value / (value.std((0, 1, 2), keepdims=True) + 1e-5)
        return value


def test_a_subclass_keeps_the_name_that_a_checkpoint_has():
    class Net(nn.Module):
        conv: Any

        @nn.compact
        def __call__(self, x):
            return self.conv(8, (3, 3))(self.conv(6, (1, 1))(x))

    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 4))
    theirs = type("StdConv", (TheirStdConv,), {"__module__": __name__})
    variables = Net(theirs).init(jax.random.key(1), x)
    assert set(variables["params"]) == {"StdConv_0", "StdConv_1"}
    tiny = jax.tree.map(lambda p: 1e-3 * p, variables)
    for checkpoint in (variables, tiny):
        ours: Any = Net(StdConv).apply(checkpoint, x)
        want: Any = Net(theirs).apply(checkpoint, x)
        np.testing.assert_allclose(ours, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_both_layers_add_epsilon_outside_the_root(masked):
    mask = (kernel((3, 3, 4, 8)) > 0).astype("float32") if masked else None
    options: dict[str, Any] = {
        "kernel_size": (3, 3),
        "epsilon": 1e-5,
        "outside_root": True,
        "mask": mask,
    }
    layer = nnx_layers.WSConv(4, 8, **options, rngs=nnx.Rngs(0))
    layer.kernel[...] = 1e-3 * layer.kernel[...]
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 4))
    variables = {"params": nnx.to_pure_dict(nnx.state(layer))}
    twin: Any = linen_layers.WSConv(8, **options).apply(variables, x)
    np.testing.assert_array_equal(layer(x), twin)
    plain = nnx.Conv(4, 8, kernel_size=(3, 3), rngs=nnx.Rngs(0))
    plain.kernel[...] = flax_gn.weight_standardize(
        layer.kernel[...], eps=1e-5, outside_root=True, mask=mask
    )
    np.testing.assert_allclose(layer(x), plain(x), atol=1e-5)


CONVOLUTIONS = [
    ("1d", (2, 9, 4), {"kernel_size": 3}),
    ("2d", (2, 6, 6, 4), {"kernel_size": (3, 3), "strides": 2, "use_bias": False}),
    ("3d", (1, 4, 4, 4, 4), {"kernel_size": (2, 2, 2), "padding": "VALID"}),
    ("grouped", (2, 6, 6, 4), {"kernel_size": (3, 3), "feature_group_count": 2}),
    ("dilated", (2, 8, 8, 4), {"kernel_size": (3, 3), "kernel_dilation": 2}),
    ("circular", (2, 6, 6, 4), {"kernel_size": (3, 3), "padding": "CIRCULAR"}),
]
by_name = pytest.mark.parametrize(
    ("shape", "options"),
    [c[1:] for c in CONVOLUTIONS],
    ids=[c[0] for c in CONVOLUTIONS],
)


def linen_pair(options, **ours):
    return nn.Conv(8, **options), linen_layers.WSConv(8, **options, **ours)


@by_name
def test_linen_convolves_as_flax_with_the_standardised_kernel(shape, options):
    x = jax.random.normal(jax.random.key(0), shape)
    flax, ours = linen_pair(options, epsilon=1e-8)
    variables = ours.init(jax.random.key(1), x)
    jax.tree.map(
        np.testing.assert_array_equal, variables, flax.init(jax.random.key(1), x)
    )
    params: Any = dict(variables["params"])
    params["kernel"] = flax_gn.weight_standardize(params["kernel"], eps=1e-8)
    theirs: Any = flax.apply({"params": params}, x)
    mine: Any = ours.apply(variables, x)
    np.testing.assert_allclose(mine, theirs, atol=1e-5)


@by_name
def test_nnx_is_linen_bit_for_bit(shape, options):
    x = jax.random.normal(jax.random.key(0), shape)
    layer = nnx_layers.WSConv(4, 8, **options, epsilon=1e-8, rngs=nnx.Rngs(0))
    twin = linen_layers.WSConv(8, **options, epsilon=1e-8)
    variables = {"params": nnx.to_pure_dict(nnx.state(layer))}
    np.testing.assert_array_equal(layer(x), twin.apply(variables, x))


def test_masked_convolutions_leave_unused_weights_at_zero():
    used = np.random.default_rng(0).random((3, 3, 4, 8)) < 0.5
    options = {"kernel_size": (3, 3), "mask": jnp.asarray(used, jnp.float32)}
    layer = nnx_layers.WSConv(4, 8, **options, rngs=nnx.Rngs(0))
    twin = linen_layers.WSConv(8, **options)
    x = jax.random.normal(jax.random.key(0), (1, 5, 5, 4))
    w = layer.kernel[...]
    plain = nnx.Conv(4, 8, kernel_size=(3, 3), rngs=nnx.Rngs(0))
    plain.kernel[...] = jnp.asarray(expected(w, 1e-10, used), jnp.float32)
    np.testing.assert_allclose(layer(x), plain(x), atol=1e-5)
    variables = {"params": nnx.to_pure_dict(nnx.state(layer))}
    np.testing.assert_array_equal(twin.apply(variables, x), layer(x))


def test_nnx_keeps_the_raw_kernel_and_its_gradient():
    layer = nnx_layers.WSConv(4, 8, kernel_size=(3, 3), rngs=nnx.Rngs(0))
    raw = layer.kernel[...]
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 4))
    gradient = nnx.jit(nnx.grad(lambda layer: (layer(x) ** 2).sum()))(layer)
    np.testing.assert_array_equal(layer.kernel[...], raw)
    # The output does not change when all weights of a channel are shifted, so the
    # gradient of its kernel sums to zero.
    largest = np.abs(gradient["kernel"][...]).max()
    sums = gradient["kernel"][...].sum((0, 1, 2)) / largest
    np.testing.assert_allclose(sums, 0, atol=1e-4)
    assert largest > 0


def test_standardises_in_float32_under_bfloat16():
    layer = nnx_layers.WSConv(
        4, 8, kernel_size=(3, 3), dtype=jnp.bfloat16, rngs=nnx.Rngs(0)
    )
    layer.kernel[...] = layer.kernel[...] + 100  # bfloat16 would keep two digits
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 4))
    plain = nnx.Conv(4, 8, kernel_size=(3, 3), dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    plain.kernel[...] = flax_gn.weight_standardize(layer.kernel[...])
    np.testing.assert_array_equal(layer(x), plain(x))


def test_linen_layer_scans():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            x = linen_layers.WSConv(4, (3, 3))(x)
            return linen_layers.GroupNorm(2)(x), None

    scanned = nn.scan(
        Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3
    )()
    x = jax.random.normal(jax.random.key(0), (1, 5, 5, 4))
    variables = scanned.init(jax.random.key(1), x, None)
    y, _ = scanned.apply(variables, x, None)
    for i in range(3):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], variables)
        x, _ = Block().apply(one, x, None)
    np.testing.assert_allclose(y, x, atol=1e-5)
