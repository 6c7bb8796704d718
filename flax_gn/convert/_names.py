"""What others call the parameters of the networks, and in which order their axes are.

Each function takes where a layer is in our network, joined by slashes, and returns what
the others call it.
"""

import functools
import re
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from flax import linen as nn

from flax_gn.models import AutoencoderKL, ResNet, ResNetV2

_TORCH_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
# (out, in, height, width) to (height, width, in, out), and (out, in) to (in, out).
_TORCH_ORDER = {4: (2, 3, 1, 0), 2: (1, 0)}


class Names(NamedTuple):
    """How others name and lay out the parameters of a network.

    Attributes:
      of: the name of the tensor for a path of ours.
      order: for arrays of so many axes, where their axes go; others stay.
    """

    of: Callable[[tuple[str, ...]], str]
    order: dict[int, tuple[int, ...]]


def named(model: nn.Module, given: Collection[str]) -> Names:
    """The names for a model, by what kinds of names are given.

    Raises:
      TypeError: no names are known for such a model.
    """
    if isinstance(model, ResNet):
        layer = _timm_resnet
    elif isinstance(model, ResNetV2):
        if any("standardized_conv2d" in name for name in given):
            return Names(_bit, {})
        layer = _timm_resnetv2
    elif isinstance(model, AutoencoderKL):
        layer = _diffusers
        if any(name.endswith(".query.weight") for name in given):
            layer = functools.partial(_diffusers, inner=_OLD)
    else:
        raise TypeError(
            "trained_variables: expected a ResNet, a ResNetV2 or an AutoencoderKL of "
            f"flax_gn.models; got {type(model).__name__}, for which no names are known."
        )

    def of(path: tuple[str, ...]) -> str:
        return f"{layer('/'.join(path[:-1]))}.{_TORCH_LEAVES[path[-1]]}"

    return Names(of, _TORCH_ORDER)


def _in_stage(layer: str) -> tuple[int, int, str]:
    """Stage and block, counted from 1, and the layer's name within."""
    stage, block, rest = re.findall(r"^stage(\d+)_block(\d+)/(\w+)$", layer)[0]
    return int(stage), int(block), rest


def _timm_resnet(layer: str) -> str:
    """Torchvision's names as well."""
    outer = {"stem_conv": "conv1", "stem_norm": "bn1", "head": "fc"}
    if layer in outer:
        return outer[layer]
    stage, block, inner = _in_stage(layer)
    inner = inner.replace("shortcut_conv", "downsample.0")
    inner = inner.replace("shortcut_norm", "downsample.1").replace("norm", "bn")
    return f"layer{stage}.{block - 1}.{inner}"


def _timm_resnetv2(layer: str) -> str:
    outer = {"stem_conv": "stem.conv", "head_norm": "norm", "head": "head.fc"}
    if layer in outer:
        return outer[layer]
    stage, block, inner = _in_stage(layer)
    inner = inner.replace("shortcut_conv", "downsample.conv")
    return f"stages.{stage - 1}.blocks.{block - 1}.{inner}"


def _bit(path: tuple[str, ...]) -> str:
    layer, leaf = "/".join(path[:-1]), path[-1]
    outer = {
        "stem_conv": "root_block/standardized_conv2d",
        "head_norm": "group_norm",
        "head": "head/conv2d",
    }
    if layer in outer:
        name = outer[layer]
    else:
        stage, block, inner = _in_stage(layer)
        kind = "standardized_conv2d" if "conv" in inner else "group_norm"
        part = "a/proj" if inner == "shortcut_conv" else "abc"[int(inner[-1]) - 1]
        name = f"block{stage}/unit{block:02d}/{part}/{kind}"
    if name.endswith("group_norm"):
        leaf = {"scale": "gamma", "bias": "beta"}[leaf]
    return f"resnet/{name}/{leaf}"


_DIFFUSERS = {
    "encoder_conv": "quant_conv",
    "decoder_conv": "post_quant_conv",
    "middle_block1": "mid_block.resnets.0",
    "middle_block2": "mid_block.resnets.1",
    "middle_attention": "mid_block.attentions.0",
    "norm": "group_norm",
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "out": "to_out.0",
    "shortcut": "conv_shortcut",
    "norm_out": "conv_norm_out",
}
# Before diffusers 0.15; many files on the hub still have them.
_OLD = _DIFFUSERS | {
    "query": "query",
    "key": "key",
    "value": "value",
    "out": "proj_attn",
}


def _diffusers(layer: str, inner: Mapping[str, str] = _DIFFUSERS) -> str:
    return ".".join(inner.get(part, _in_level(part)) for part in layer.split("/"))


def _in_level(part: str) -> str:
    found = re.fullmatch(r"(down|up)(\d+)_(?:block(\d+)|conv)", part)
    if found is None:
        return part
    way, level, block = found.groups()
    last = f"resnets.{int(block) - 1}" if block else f"{way}samplers.0.conv"
    return f"{way}_blocks.{int(level) - 1}.{last}"
