"""The norms that the experiments compare, by name."""

from collections.abc import Callable
from functools import partial

from flax_gn import linen

EPSILON = 1e-5  # the paper's, for all
# A fixed number of channels in a group rather than of groups: 32 groups are more than
# the narrow layers of small networks have to give. The paper's table of channels per
# group is flat from 64 down to 8 and worsens below.
GROUP_SIZE = 8
BN_MOMENTUM = 0.9  # of the running averages, as in the author's code


def _batch_norm(training: bool):
    return partial(
        linen.BatchNorm,
        use_running_average=not training,
        momentum=BN_MOMENTUM,
        epsilon=EPSILON,
    )


def _group_norm(training: bool):
    del training  # the same in training and evaluation
    return partial(
        linen.GroupNorm, num_groups=None, group_size=GROUP_SIZE, epsilon=EPSILON
    )


def _layer_norm(training: bool):
    del training
    return partial(linen.LayerNorm, epsilon=EPSILON)


def _instance_norm(training: bool):
    del training
    return partial(linen.InstanceNorm, epsilon=EPSILON)


# Each is called with whether it is for training, and gives what models take as `norm`.
NORMS: dict[str, Callable[[bool], Callable]] = {
    "bn": _batch_norm,
    "gn": _group_norm,
    "ln": _layer_norm,
    "in": _instance_norm,
}
TITLES = {
    "bn": "batch norm",
    "gn": "group norm",
    "ln": "layer norm",
    "in": "instance norm",
}
