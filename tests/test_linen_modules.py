"""The linen layers among other modules: transformed, printed, partitioned, misused."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec as P

import flax_gn
from flax_gn import linen as layers
from tests.variables import SHAPE, random, randomized

PARAMS = {"scale": jnp.ones(8), "bias": jnp.zeros(8)}
PLAIN = {"width": 200, "no_color": True, "force_terminal": False}


def test_conditioning_and_activation():
    x, (scale, shift) = random(), random((2, 2, 8), seed=4)
    layer = layers.GroupNorm(2, activation="silu")
    variables = randomized(layer, x)
    plain: Any = nn.GroupNorm(2).apply(variables, x)
    expected = jax.nn.silu(plain * (1 + scale[:, None, None]) + shift[:, None, None])
    y: Any = layer.apply(variables, x, scale=scale, shift=shift)
    np.testing.assert_allclose(y, expected, atol=2e-5)


def test_conditioning_alone_needs_no_parameters():
    x, (scale, shift) = random(), random((2, 2, 8), seed=4)
    layer = layers.GroupNorm(2, use_scale=False, use_bias=False)
    y: Any = layer.apply({}, x, scale=scale, shift=shift)
    expected = flax_gn.group_norm(x, 1 + scale, shift, 2, eps=1e-6)
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    ("make", "groups"),
    [(layers.LayerNorm, 1), (layers.InstanceNorm, 8)],
    ids=["layer_norm", "instance_norm"],
)
def test_ends_are_the_papers(make, groups):
    layer = make(epsilon=1e-3, activation="relu")
    variables = randomized(layer, random())
    scale, bias = variables["params"]["scale"], variables["params"]["bias"]
    expected = flax_gn.group_norm(
        random(), scale, bias, groups, eps=1e-3, activation="relu"
    )
    np.testing.assert_array_equal(layer.apply(variables, random()), expected)


def test_batch_norm_is_flaxs():
    assert layers.BatchNorm is nn.BatchNorm


class Stack(nn.Module):
    """Three norms, each followed by tanh, as a loop or as one scanned layer."""

    scanned: bool

    @nn.compact
    def __call__(self, x):
        def body(layer, x, _):
            return nn.tanh(layer(x)), None

        if self.scanned:
            body = nn.scan(
                body, variable_axes={"params": 0}, split_rngs={"params": True}, length=3
            )
            return body(layers.GroupNorm(2, name="norm"), x, None)[0]
        for i in range(3):
            x, _ = body(layers.GroupNorm(2, name=f"norm_{i}"), x, None)
        return x


def test_scan_over_layers():
    params = {"scale": random((3, 8)), "bias": random((3, 8), seed=1)}
    loop = {f"norm_{i}": jax.tree.map(lambda p, i=i: p[i], params) for i in range(3)}

    def gradient(model, params):
        return jax.jit(jax.grad(lambda x: (model.apply(params, x) ** 2).sum()))(
            random()
        )

    np.testing.assert_allclose(
        gradient(Stack(scanned=True), {"params": {"norm": params}}),
        gradient(Stack(scanned=False), {"params": loop}),
        atol=1e-4,
    )
    fresh = jax.eval_shape(
        lambda: Stack(scanned=True).init(jax.random.key(0), random())
    )
    assert jax.tree.map(jnp.shape, fresh["params"]["norm"]) == jax.tree.map(
        jnp.shape, params
    )


def test_vmap_over_layers():
    xs, params = random((3, *SHAPE)), {"scale": random((3, 8)), "bias": random((3, 8))}
    stack: Any = nn.vmap(
        layers.GroupNorm, variable_axes={"params": 0}, split_rngs={"params": True}
    )(2)
    ys = stack.apply({"params": params}, xs)
    for i, y in enumerate(ys):
        one = {"params": jax.tree.map(lambda p, i=i: p[i], params)}
        expected: Any = layers.GroupNorm(2).apply(one, xs[i])
        np.testing.assert_allclose(y, expected, atol=1e-6)


def test_remat_changes_no_gradient():
    plain, rematerialised = (
        cls(2, activation="silu")
        for cls in (layers.GroupNorm, nn.remat(layers.GroupNorm))
    )
    variables = randomized(plain, random())

    def loss(layer: Any, variables):
        return (layer.apply(variables, random()) ** 2).sum()

    expected, got = (
        jax.grad(loss, 1)(layer, variables) for layer in (plain, rematerialised)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), got, expected
    )


def test_shape_evaluation_needs_no_data():
    layer = layers.GroupNorm(2)
    x = jax.ShapeDtypeStruct(SHAPE, jnp.float32)
    y, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), x)
    assert (y.shape, y.dtype) == (SHAPE, jnp.float32)
    assert variables["params"]["scale"].shape == (8,)


def test_prints_what_it_is():
    layer = layers.GroupNorm(2, activation="silu")
    for part in ("GroupNorm(", "num_groups = 2", "activation = 'silu'"):
        assert part in repr(layer)
    table = layer.tabulate(jax.random.key(0), random(), console_kwargs=PLAIN)
    for part in ("GroupNorm", "float32[2,4,4,8]", "scale: float32[8]", "16"):
        assert part in table


def test_partitioning_metadata_survives():
    layer = layers.GroupNorm(
        2,
        scale_init=nn.with_partitioning(nn.initializers.ones, ("model",)),
        bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ("channels",)),
    )
    y, variables = layer.init_with_output(jax.random.key(0), random())
    specs = nn.get_partition_spec(variables)["params"]
    assert (specs["scale"], specs["bias"]) == (P("model"), P("channels"))
    np.testing.assert_array_equal(y, layer.apply(nn.unbox(variables), random()))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_groups": 3}, ValueError, "must divide"),
        ({"num_groups": 2.0}, TypeError, "must be an int"),
        ({"num_groups": None, "group_size": 0}, ValueError, "at least 1"),
        ({"num_groups": 2, "group_size": 4}, ValueError, "either num_groups or"),
        ({"num_groups": 2, "epsilon": -1.0}, ValueError, "epsilon must be 0, or pos"),
        ({"num_groups": 2, "reduction_axes": (1, 2)}, ValueError, "channel axis"),
        ({"num_groups": 2, "axis_name": "gone"}, ValueError, "axis_name must be"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        layers.GroupNorm(**arguments).apply({"params": PARAMS}, random())


def test_an_array_without_axes_is_refused():
    with pytest.raises(ValueError, match=r"GroupNorm: x must have .* got shape \(\)"):
        layers.GroupNorm(1).init(jax.random.key(0), jnp.zeros(()))
