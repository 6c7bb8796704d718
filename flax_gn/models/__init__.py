"""Networks that take their norm as an argument."""

from flax_gn.models.fcos import FCOS as FCOS
from flax_gn.models.fcos import Level as Level
from flax_gn.models.i3d import I3D as I3D
from flax_gn.models.resnet import BasicBlock as BasicBlock
from flax_gn.models.resnet import BottleneckBlock as BottleneckBlock
from flax_gn.models.resnet import ResNet as ResNet
from flax_gn.models.resnet import resnet8 as resnet8
from flax_gn.models.resnet import resnet18 as resnet18
from flax_gn.models.resnet import resnet20 as resnet20
from flax_gn.models.resnet import resnet34 as resnet34
from flax_gn.models.resnet import resnet50 as resnet50
from flax_gn.models.resnet import resnet101 as resnet101
from flax_gn.models.unet import UNet as UNet

__all__ = [
    "FCOS",
    "I3D",
    "BasicBlock",
    "BottleneckBlock",
    "Level",
    "ResNet",
    "UNet",
    "resnet8",
    "resnet18",
    "resnet20",
    "resnet34",
    "resnet50",
    "resnet101",
]
