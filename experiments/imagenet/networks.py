"""The network that a config names, with the norm that it names."""

import functools
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from experiments.imagenet.config import Config
from experiments.training import patches
from flax_gn import linen, models

AXIS = "data"
_EPSILON = 1e-5  # the paper's, for all
_MOMENTUM = 0.9  # of batch norm's running averages, as in the author's code
_BLOCKS = {
    "resnet8": (models.resnet8, models.BasicBlock),
    "resnet18": (models.resnet18, models.BasicBlock),
    "resnet20": (models.resnet20, models.BasicBlock),
    "resnet34": (models.resnet34, models.BasicBlock),
    "resnet50": (models.resnet50, models.BottleneckBlock),
    "resnet101": (models.resnet101, models.BottleneckBlock),
}


def build(config: Config, classes: int, platform: str, *, training: bool) -> nn.Module:
    """The network, for training or for evaluation; both share their variables.

    In training, batch norm with global statistics belongs under a mapped axis `AXIS`.

    Args:
      config: the run.
      classes: of the data.
      platform: what it is compiled for, such as "cpu".
      training: whether batch norm takes statistics from what it sees.
    """
    make, block = _BLOCKS[config.network]
    options: dict[str, Any] = {}
    if config.remat:
        options["block"] = nn.remat(block)
    if config.image_size <= 64 and platform == "cpu":
        options["conv"] = functools.partial(nn.Conv, conv_general_dilated=patches.conv)
    return make(
        norm=_norm(config, training),
        classes=classes,
        dtype=jnp.dtype(config.dtype),
        **options,
    )


def _norm(config: Config, training: bool) -> Any:
    if config.norm == "bn":
        shared = training and config.statistics == "global"
        return functools.partial(
            linen.BatchNorm,
            use_running_average=not training,
            momentum=_MOMENTUM,
            epsilon=_EPSILON,
            axis_name=AXIS if shared else None,
        )
    if config.norm == "gn":
        return functools.partial(
            linen.GroupNorm,
            num_groups=config.groups,
            group_size=config.group_size,
            epsilon=_EPSILON,
        )
    layer = {"ln": linen.LayerNorm, "in": linen.InstanceNorm}[config.norm]
    return functools.partial(layer, epsilon=_EPSILON)
