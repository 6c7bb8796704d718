"""The GPU kernels in programs for several devices, lowered here and run nowhere."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding

from flax_gn import group_norm

pytestmark = pytest.mark.skipif(
    jax.device_count() < 4,
    reason="needs four devices: XLA_FLAGS=--xla_force_host_platform_device_count=4",
)
SHAPE = (8, 32, 32, 640)


def _gradient(x, gamma, groups):
    def loss(x, gamma):
        y = group_norm(
            x, gamma, gamma, groups, activation="silu", implementation="pallas_gpu"
        )
        return jnp.sum(jnp.square(y.astype(jnp.float32)))

    return jax.grad(loss, (0, 1))(x, gamma)


def _lowered(f, kind, spec):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("d",), axis_types=(kind,))
    split, whole = NamedSharding(mesh, spec), NamedSharding(mesh, jax.P())
    x = jax.ShapeDtypeStruct(SHAPE, jnp.bfloat16, sharding=split)
    gamma = jax.ShapeDtypeStruct(SHAPE[-1:], jnp.float32, sharding=whole)
    with jax.set_mesh(mesh):
        traced = jax.jit(f).trace(x, gamma)
        return traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize(
    ("spec", "groups", "kernels"),
    [
        (jax.P("d"), 32, 2),
        (jax.P(None, "d"), 32, 4),
        (jax.P(None, None, None, "d"), 32, 2),
        (jax.P(None, None, None, "d"), 2, 4),
    ],
    ids=["batch", "height", "whole_groups", "parts_of_groups"],
)
def test_explicit_mesh_runs_it_on_each_part(spec, groups, kernels):
    text = _lowered(
        functools.partial(_gradient, groups=groups), AxisType.Explicit, spec
    )
    assert text.count("@mosaic_gpu") == kernels
    for gathered in ("all_gather", "all_to_all"):
        assert gathered not in text


def test_shard_map_runs_it_on_each_part():
    def f(x, gamma):
        part = jax.P("d")
        return jax.shard_map(
            lambda *arrays: _gradient(*arrays, groups=32)[0],
            in_specs=(part, jax.P()),
            out_specs=part,
        )(x, gamma)

    text = _lowered(f, AxisType.Auto, jax.P("d"))
    assert text.count("@mosaic_gpu") == 2


def test_automatic_mesh_is_refused():
    f = functools.partial(_gradient, groups=32)
    with pytest.raises(NotImplementedError, match="cannot be automatically partition"):
        _lowered(f, AxisType.Auto, jax.P("d"))
