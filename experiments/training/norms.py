"""The norms that the experiments compare, by name."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype, Initializer

from flax_gn import group_stats, instance_norm, linen

EPSILON = 1e-5  # the paper's, for all
# A fixed number of channels in a group rather than of groups: 32 groups are more than
# the narrow layers of small networks have to give. The paper's table of channels per
# group is flat from 64 down to 8 and worsens below.
GROUP_SIZE = 8
BN_MOMENTUM = 0.9  # of the running averages, as in the author's code
AXIS = "data"  # of the devices that share a step


def _batch_norm(training: bool):
    return partial(
        linen.BatchNorm,
        use_running_average=not training,
        momentum=BN_MOMENTUM,
        epsilon=EPSILON,
    )


def _frozen(training: bool):
    del training
    return _batch_norm(training=False)


def _synchronised(training: bool):
    return partial(_batch_norm(training), axis_name=AXIS)


def _group_norm(training: bool):
    return channels(GROUP_SIZE)(training)


def groups(count: int) -> "MakeNorm":
    """Group norm with so many groups in every layer."""
    return lambda _: partial(linen.GroupNorm, num_groups=count, epsilon=EPSILON)


def channels(count: int) -> "MakeNorm":
    """Group norm with so many channels in every group."""
    return lambda _: partial(
        linen.GroupNorm, num_groups=None, group_size=count, epsilon=EPSILON
    )


def _layer_norm(training: bool):
    del training
    return partial(linen.LayerNorm, epsilon=EPSILON)


def _instance_norm(training: bool):
    del training
    return partial(linen.InstanceNorm, epsilon=EPSILON)


class GhostNorm(nn.Module):
    """Batch norm with the statistics of parts of the batch (Hoffer et al., 2017).

    arXiv:1705.08741, section 4: the batch is cut into ghost batches that are normalised
    each by itself, so that the noise of small batches comes without their many steps.
    That is instance norm of an array whose first spatial axis is the ghost batch. The
    running averages are of the mean over the ghost batches.

    Attributes:
      size: examples in a ghost batch; the batch is a multiple of it.
      use_running_average: whether to normalise with them, as in evaluation.
    """

    size: int
    use_running_average: bool
    dtype: Dtype | None = None
    scale_init: Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        zeros, ones = jnp.zeros(channels), jnp.ones(channels)
        mean = self.variable("batch_stats", "mean", lambda: zeros)
        var = self.variable("batch_stats", "var", lambda: ones)
        scale = self.param("scale", self.scale_init, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        dtype = self.dtype or x.dtype
        if self.use_running_average or self.is_initializing():
            slope = scale * jax.lax.rsqrt(var.value + EPSILON)
            return ((x - mean.value) * slope + bias).astype(dtype)
        ghosts = x.reshape(-1, self.size, *x.shape[1:])
        statistics = group_stats(ghosts, channels)
        for average, now in zip((mean, var), statistics, strict=True):
            kept, new = BN_MOMENTUM * average.value, jnp.mean(now, 0)
            average.value = kept + (1 - BN_MOMENTUM) * new
        y = instance_norm(ghosts, scale, bias, eps=EPSILON, dtype=dtype)
        return y.reshape(x.shape)


def ghosts(size: int) -> "MakeNorm":
    """Batch norm with the statistics of so many examples at a time."""
    return lambda training: partial(
        GhostNorm, size=size, use_running_average=not training
    )


class Bias(nn.Module):
    """No norm: the bias alone, which the convolutions of the models leave to it."""

    dtype: Dtype = jnp.float32
    scale_init: Initializer = nn.initializers.ones  # as norms have; not used

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        return x + jnp.broadcast_to(bias.astype(self.dtype), x.shape)


def _none(training: bool):
    del training
    return Bias


# Called with whether it is for training, it gives what models take as `norm`.
MakeNorm = Callable[[bool], Callable]
NORMS: dict[str, MakeNorm] = {
    "bn": _batch_norm,
    "gn": _group_norm,
    "ln": _layer_norm,
    "in": _instance_norm,
    "sync": _synchronised,
    "frozen": _frozen,
    "none": _none,
}
# "groups32" has 32 groups in every layer, "channels32" 32 channels in every group.
COUNTS = (64, 32, 16, 8, 4, 2, 1)
NORMS |= {f"groups{count}": groups(count) for count in COUNTS}
NORMS |= {f"channels{count}": channels(count) for count in COUNTS}
# "ghost8" has batch norm's statistics of 8 examples, whatever the batch.
GHOSTS = (16, 8, 4, 2, 1)
NORMS |= {f"ghost{size}": ghosts(size) for size in GHOSTS}
TITLES = {
    "bn": "batch norm",
    "gn": "group norm",
    "ln": "layer norm",
    "in": "instance norm",
    "sync": "batch norm over all devices",
    "ghost": "batch norm of ghost batches",
    "frozen": "frozen batch norm",
    "none": "no norm",
}
