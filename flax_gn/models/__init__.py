"""Networks that take their norm as an argument."""

from flax_gn.models.autoencoder import AutoencoderKL as AutoencoderKL
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
from flax_gn.models.resnet import resnet50_gn as resnet50_gn
from flax_gn.models.resnet import resnet101 as resnet101
from flax_gn.models.resnetv2 import PreActivationBlock as PreActivationBlock
from flax_gn.models.resnetv2 import ResNetV2 as ResNetV2
from flax_gn.models.resnetv2 import resnetv2_50x1_bit as resnetv2_50x1_bit
from flax_gn.models.resnetv2 import resnetv2_50x3_bit as resnetv2_50x3_bit
from flax_gn.models.resnetv2 import resnetv2_101x1_bit as resnetv2_101x1_bit
from flax_gn.models.resnetv2 import resnetv2_101x3_bit as resnetv2_101x3_bit
from flax_gn.models.resnetv2 import resnetv2_152x2_bit as resnetv2_152x2_bit
from flax_gn.models.resnetv2 import resnetv2_152x4_bit as resnetv2_152x4_bit
from flax_gn.models.unet import UNet as UNet

__all__ = [
    "FCOS",
    "I3D",
    "AutoencoderKL",
    "BasicBlock",
    "BottleneckBlock",
    "Level",
    "PreActivationBlock",
    "ResNet",
    "ResNetV2",
    "UNet",
    "resnet8",
    "resnet18",
    "resnet20",
    "resnet34",
    "resnet50",
    "resnet50_gn",
    "resnet101",
    "resnetv2_50x1_bit",
    "resnetv2_50x3_bit",
    "resnetv2_101x1_bit",
    "resnetv2_101x3_bit",
    "resnetv2_152x2_bit",
    "resnetv2_152x4_bit",
]
