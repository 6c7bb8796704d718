"""The network that a config names, with the norm that it names."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.imagenet.config import BIT, Config
from experiments.training import patches
from flax_gn import convert, linen, models

AXIS = "data"
_EPSILON = 1e-5  # the paper's, for all
_MOMENTUM = 0.9  # of batch norm's running averages, as in the author's code
_BLOCKS: dict[str, tuple[Any, Any]] = {
    "resnet8": (models.resnet8, models.BasicBlock),
    "resnet18": (models.resnet18, models.BasicBlock),
    "resnet20": (models.resnet20, models.BasicBlock),
    "resnet34": (models.resnet34, models.BasicBlock),
    "resnet50": (models.resnet50, models.BottleneckBlock),
    "resnet101": (models.resnet101, models.BottleneckBlock),
    **{name: (getattr(models, name), models.PreActivationBlock) for name in BIT},
}
# Means and deviations of red, green and blue, by which images are standardised: of
# ImageNet's training images scaled to [0, 1], and what maps them to [-1, 1] for BiT.
_IMAGENET = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)
_HALF = np.full((2, 3), 0.5, np.float32)


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
        conv = make.keywords.get("conv", nn.Conv)
        options["conv"] = functools.partial(conv, conv_general_dilated=patches.conv)
    return make(
        norm=_norm(config, training),
        classes=classes,
        dtype=jnp.dtype(config.dtype),
        **options,
    )


def standardised(config: Config, images: jax.Array) -> jax.Array:
    """Images of bytes, as the network of a config is trained on them."""
    mean, deviation = _HALF if config.network in BIT else _IMAGENET
    scaled = images.astype(jnp.float32) / 255
    return ((scaled - mean) / deviation).astype(config.dtype)


def trained(config: Config, model: nn.Module) -> dict[str, Any]:
    """The parameters that the config's file has for its network; none without one.

    Raises:
      OSError: there is no such file.
      ValueError: it does not fit the network.
    """
    if config.weights is None:
        return {}
    without = ["head"] if config.new_head else []
    try:
        found = convert.trained_variables(model, config.weights, without=without)
    except ValueError as error:
        raise ValueError(
            f"--weights {config.weights} does not fit --network {config.network}: "
            f"{error} For data with other classes, --new-head trains another head."
        ) from error
    return found["params"]


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
