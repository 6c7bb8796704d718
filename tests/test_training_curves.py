"""One training run, split over devices in every way: pmap, shard_map, sharded jit.

Once over the batch, and once over height, where the devices share every statistic.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding

from flax_gn.linen import GroupNorm

DEVICES, STEPS = 4, 8
# Sums of the same numbers in other orders, and eight steps that amplify it.
CURVES = 1e-5
AXIS = "devices"

pytestmark = pytest.mark.skipif(
    jax.device_count() < DEVICES,
    reason="needs four devices: XLA_FLAGS=--xla_force_host_platform_device_count=4",
)


class Network(nn.Module):
    """Two layers of one position each, so that height can be split."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, x):
        for features in (16, 8):
            x = nn.Dense(features, use_bias=False)(x)
            x = GroupNorm(num_groups=4, axis_name=self.axis_name, activation="silu")(x)
        return x


def _data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 8, 3, 4)).astype(np.float32)
    return x, np.sin(2 * x[..., ::-1]).sum(-1, keepdims=True).repeat(8, -1)


def _step(network, average, params, x, target):
    """A step of gradient descent on the mean over all devices."""

    def loss(params):
        return jnp.mean(jnp.square(network.apply(params, x) - target))

    value, gradient = average(jax.value_and_grad(loss)(params))
    return optax.apply_updates(
        params, jax.tree.map(lambda g: -0.1 * g, gradient)
    ), value


def _curve(how, axis):
    """Losses of training with arrays split along an axis."""
    x, target = _data()
    params = Network().init(jax.random.key(0), x)
    network = Network(axis_name=AXIS if axis == 1 and how != "jit" else None)
    devices = jax.devices()[:DEVICES]
    mesh = jax.sharding.Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))
    split, whole = jax.P(*(None,) * axis, AXIS), jax.P()
    over_devices = functools.partial(jax.lax.pmean, axis_name=AXIS)
    if how == "pmap":
        cut = [np.stack(np.split(a, DEVICES, axis)) for a in (x, target)]
        step = jax.pmap(
            functools.partial(_step, network, over_devices),
            AXIS,
            in_axes=(None, 0, 0),
            out_axes=(None, None),
            devices=devices,
        )
    else:
        cut = [jax.device_put(a, NamedSharding(mesh, split)) for a in (x, target)]
        step = functools.partial(_step, network, lambda values: values)
        if how == "shard_map":
            step = jax.shard_map(
                functools.partial(_step, network, over_devices),
                mesh=mesh,
                in_specs=(whole, split, split),
                out_specs=(whole, whole),
                check_vma=False,
            )
        step = jax.jit(step)
    losses = []
    for _ in range(STEPS):
        params, loss = step(params, *cut)
        losses.append(float(loss))
    return np.array(losses)


@pytest.mark.parametrize("axis", [0, 1], ids=["batch", "height"])
def test_every_way_gives_one_curve(axis):
    alone = _curve("jit", axis)
    assert alone[-1] < 0.9 * alone[0], "it learns"
    for how in ("pmap", "shard_map"):
        np.testing.assert_allclose(_curve(how, axis), alone, rtol=CURVES)
