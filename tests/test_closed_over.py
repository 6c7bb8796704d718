"""Every layer as a value that a transformed function closes over.

The layer belongs to no argument, and was made outside of what is traced. Whatever it
writes to itself under a trace, or copies of itself, shows here.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax.extend.core import jaxpr_as_fun
from jax.sharding import PartitionSpec as P

from flax_gn import linen as linen_layers
from flax_gn import nnx as nnx_layers
from tests.variables import random

SHAPE = (2, 6, 6, 8)
CONV: dict[str, Any] = {"kernel_size": (3, 3), "outside_root": True}


def _in_linen(layer: Any):
    variables = jax.jit(layer.init)(jax.random.key(0), random(SHAPE))
    return lambda x: layer.apply(variables, x)


def _in_nnx(make, *args, **options):
    return make(*args, rngs=nnx.Rngs(0), **options)


LAYERS = {
    "linen GroupNorm": lambda: _in_linen(linen_layers.GroupNorm(2, activation="silu")),
    "linen LayerNorm": lambda: _in_linen(linen_layers.LayerNorm()),
    "linen InstanceNorm": lambda: _in_linen(linen_layers.InstanceNorm()),
    "linen PReLU": lambda: _in_linen(linen_layers.GroupNorm(2, activation=nn.PReLU())),
    "linen WSConv": lambda: _in_linen(linen_layers.WSConv(8, **CONV)),
    "nnx GroupNorm": lambda: _in_nnx(nnx_layers.GroupNorm, 8, 2, activation="silu"),
    "nnx LayerNorm": lambda: _in_nnx(nnx_layers.LayerNorm, 8),
    "nnx InstanceNorm": lambda: _in_nnx(nnx_layers.InstanceNorm, 8),
    "nnx PReLU": lambda: _in_nnx(nnx_layers.GroupNorm, 8, 2, activation=nnx.PReLU(0.2)),
    "nnx WSConv": lambda: _in_nnx(nnx_layers.WSConv, 8, 8, **CONV),
    "nnx masked WSConv": lambda: _in_nnx(
        nnx_layers.WSConv,
        8,
        8,
        **CONV,
        mask=(random((3, 3, 8, 8), 3) > 0).astype("float32"),
    ),
}


@functools.cache
def layer_of(name) -> Any:
    return LAYERS[name]()


def _scan(f, x):
    return jax.lax.scan(lambda carry, x: (carry, f(x)), None, x[None])[1][0]


def _carried(f, x):
    return jax.lax.fori_loop(0, 1, lambda _, x: f(x), x)


def _cond(f, x):
    return jax.lax.cond(x[0, 0, 0, 0] < 1e9, f, lambda x: x, x)


def _export(f, x):
    exported = jax.export.export(jax.jit(f))(jax.ShapeDtypeStruct(x.shape, x.dtype))
    return jax.export.deserialize(exported.serialize()).call(x)


def _open_export(f, x):
    n, h = jax.export.symbolic_shape("n, h")
    shape = jax.ShapeDtypeStruct((n, h, *x.shape[2:]), x.dtype)
    return jax.export.export(jax.jit(f))(shape).call(x)


def _shard_map(f, x):
    mesh = jax.sharding.Mesh(jax.devices()[:2], "i")
    return jax.shard_map(f, mesh=mesh, in_specs=P("i"), out_specs=P("i"))(x)


TRANSFORMATIONS = {
    "jit": lambda f, x: jax.jit(f)(x),
    "vmap": lambda f, x: jax.vmap(f)(x[:, None])[:, 0],
    "checkpoint": lambda f, x: jax.checkpoint(f)(x),
    "scan": _scan,
    "fori_loop": _carried,
    "cond": _cond,
    "export": _export,
    "export of open sizes": _open_export,
    "pmap": lambda f, x: jax.pmap(f, devices=jax.devices()[:2])(x[:, None])[:, 0],
    "shard_map": _shard_map,
    "linearize": lambda f, x: jax.linearize(f, x)[0],
    "make_jaxpr": lambda f, x: jaxpr_as_fun(jax.make_jaxpr(f)(x))(x)[0],
    "nnx.jit": lambda f, x: nnx.jit(lambda x: f(x))(x),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
def test_values_are_those_of_the_plain_call(transformation, name):
    f, x = layer_of(name), random(SHAPE)
    y = TRANSFORMATIONS[transformation](f, x)
    np.testing.assert_allclose(y, f(x), atol=2e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_shapes_are_those_of_the_plain_call(name):
    f, x = layer_of(name), random(SHAPE)
    abstract = jax.eval_shape(f, jax.ShapeDtypeStruct(x.shape, x.dtype))
    assert (abstract.shape, abstract.dtype) == (SHAPE, x.dtype)


DERIVATIVES = {
    "jit of grad": lambda f, x, v: jax.jit(jax.grad(lambda x: (f(x) * v).sum()))(x),
    "grad of checkpoint": lambda f, x, v: jax.grad(
        lambda x: (jax.checkpoint(f)(x) * v).sum()
    )(x),
    "grad of scan": lambda f, x, v: jax.grad(lambda x: (_scan(f, x) * v).sum())(x),
    "grad of cond": lambda f, x, v: jax.grad(lambda x: (_cond(f, x) * v).sum())(x),
    "nnx.grad": lambda f, x, v: nnx.grad(lambda x: (f(x) * v).sum())(x),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("derivative", DERIVATIVES)
def test_gradients_are_those_of_the_plain_call(derivative, name):
    f, x, v = layer_of(name), random(SHAPE), random(SHAPE, 1)
    _, pullback = jax.vjp(f, x)
    got = DERIVATIVES[derivative](f, x, v)
    np.testing.assert_allclose(got, pullback(v)[0], rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_directional_derivatives_are_those_of_the_plain_call(name):
    f, x, v = layer_of(name), random(SHAPE), random(SHAPE, 1)
    _, dy = jax.jit(lambda x, v: jax.jvp(f, (x,), (v,)))(x, v)
    step = 1e-2
    slope = (f(x + step * v) - f(x - step * v)) / (2 * step)
    close = jnp.abs(dy - slope) < 0.02 * (1 + jnp.abs(slope))
    assert close.mean() > 0.97  # a kink lies between a few
