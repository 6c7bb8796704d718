"""The layers where arrays are split over devices, with Flax's own means to say so."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from flax_gn import linen
from flax_gn import nnx as nnx_layers
from tests import oracle

SHAPE = (4, 8, 6, 16)
SPECS = {
    "height": (P("a", "b"), P()),
    "groups": (P("a", None, None, "b"), P("b")),
    "cut": (P(None, "a", None, "b"), P("b")),
}
GROUPS = {"height": 4, "groups": 4, "cut": 2}


@pytest.fixture(params=[AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def mesh(request):
    made = jax.make_mesh((2, 4), ("a", "b"), axis_types=(request.param,) * 2)
    with jax.set_mesh(made):
        yield made


def _data(mean=100.0):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(SHAPE) + mean
    scale, bias, dy = (rng.standard_normal(s) for s in (SHAPE[-1:], SHAPE[-1:], SHAPE))
    return tuple(a.astype(np.float32) for a in (x, scale, bias, dy))


def _check(y, d_scale, d_bias, groups):
    x, scale, bias, dy = _data()
    expected = oracle.group_norm(x, scale, bias, groups, eps=1e-6)
    gradients = oracle.gradients(x, scale, bias, groups, dy, eps=1e-6)
    np.testing.assert_allclose(y, expected.y, atol=2e-5)
    np.testing.assert_allclose(d_scale, gradients.gamma, atol=2e-4)
    np.testing.assert_allclose(d_bias, gradients.beta, atol=2e-4)


@pytest.mark.parametrize("name", SPECS)
def test_linen(mesh, name):
    x_spec, parameter_spec = SPECS[name]
    values = _data()
    x, dy = (jax.device_put(values[i], NamedSharding(mesh, x_spec)) for i in (0, 3))

    def start(value):
        # On an explicit mesh Flax wants it split already: its linen constrains the
        # parameter, and jax then only compares.
        def init(*_):
            array = jnp.array(value)
            explicit = AxisType.Explicit in mesh.axis_types
            return jax.sharding.reshard(array, parameter_spec) if explicit else array

        return nn.with_partitioning(init, parameter_spec)

    layer = linen.GroupNorm(
        GROUPS[name], scale_init=start(values[1]), bias_init=start(values[2])
    )
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)
    shardings = nn.get_sharding(shapes, mesh)
    variables = jax.jit(layer.init, out_shardings=shardings)(jax.random.key(0), x)

    @jax.jit
    def step(variables, x, dy):
        y, pullback = jax.vjp(layer.apply, variables, x)
        return y, pullback(dy)[0]

    y, gradients = step(variables, x, dy)
    assert y.sharding.is_equivalent_to(x.sharding, y.ndim)
    specs = nn.get_partition_spec(gradients)
    assert specs == nn.get_partition_spec(variables)
    assert set(jax.tree.leaves(specs)) == {parameter_spec}
    got = nn.unbox(gradients)["params"]
    for gradient in got.values():
        expected = NamedSharding(mesh, parameter_spec)
        assert gradient.sharding.is_equivalent_to(expected, 1)
    _check(y, got["scale"], got["bias"], GROUPS[name])


@pytest.mark.parametrize("name", SPECS)
def test_nnx(mesh, name):
    x_spec, parameter_spec = SPECS[name]
    values = _data()
    x, dy = (jax.device_put(values[i], NamedSharding(mesh, x_spec)) for i in (0, 3))
    metadata = {"out_sharding": tuple(parameter_spec)}
    layer: Any = nnx_layers.GroupNorm(
        SHAPE[-1],
        GROUPS[name],
        scale_init=lambda *_: jnp.array(values[1]),
        bias_init=lambda *_: jnp.array(values[2]),
        scale_metadata=metadata,
        bias_metadata=metadata,
        rngs=nnx.Rngs(0),
    )

    @nnx.jit
    def step(layer, x, dy):
        def loss(layer):
            y = layer(x)
            return jnp.sum(y * dy), y

        (_, y), gradients = nnx.value_and_grad(loss, has_aux=True)(layer)
        return y, gradients

    y, gradients = step(layer, x, dy)
    assert y.sharding.is_equivalent_to(x.sharding, y.ndim)
    for parameter in (layer.scale, layer.bias, gradients["scale"], gradients["bias"]):
        assert parameter.get_metadata("out_sharding") == tuple(parameter_spec)
        expected = NamedSharding(mesh, parameter_spec)
        assert parameter[...].sharding.is_equivalent_to(expected, 1)
    _check(y, gradients["scale"][...], gradients["bias"][...], GROUPS[name])


def _linen(groups, **options):
    _, scale, bias, _ = _data()
    layer = linen.GroupNorm(groups, **options)
    variables = {"params": {"scale": jnp.array(scale), "bias": jnp.array(bias)}}
    return lambda x: layer.apply(variables, x)


def _nnx(groups, **options):
    _, scale, bias, _ = _data()
    layer = nnx_layers.GroupNorm(SHAPE[-1], groups, rngs=nnx.Rngs(0), **options)
    layer.scale[...], layer.bias[...] = jnp.array(scale), jnp.array(bias)
    return layer


@pytest.mark.parametrize("make", [_linen, _nnx])
@pytest.mark.parametrize("names", ["b", ("a", "b")])
def test_axis_name(make, names):
    x, scale, bias, _ = _data()
    on = jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    spec = P("a", "b") if names == "b" else P(None, ("a", "b"))
    split = jax.shard_map(
        make(2, axis_name=names), mesh=on, in_specs=spec, out_specs=spec
    )
    expected = oracle.group_norm(x, scale, bias, 2, eps=1e-6).y
    np.testing.assert_allclose(jax.jit(split)(x), expected, atol=2e-5)
