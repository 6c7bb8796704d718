"""The recipe: ResNet-20 at 32 and 1 examples per device, and a VGG of 8 convolutions.

ResNet-20 has a block more in each stage than the ResNet-14 of `small_batch`. Each
network has for each norm the rate that `experiments.lab.search` found at 32 per device.
"""

import functools

from experiments.lab import Size, plan, search
from experiments.training import Config
from experiments.training.vgg import VGG
from flax_gn import models

NORMS = ("none", "bn", "gn")
RESIDUAL = ("bn", "gn")  # without a norm, blocks that start at zero do not compare
RATES = {norm: search.best("depth", f"resnet-{norm}") for norm in RESIDUAL}
VGG_RATES = {norm: search.best("depth", f"vgg-{norm}") for norm in NORMS}

# The VGG is slower to learn, and cheaper: so many times the epochs of the ResNet.
VGG_LONGER = 3

SIZES = {
    "default": Size(epochs=10, batches=(32, 1), seeds=3),
    "quick": Size(epochs=1, batches=(32,), seeds=1, examples=512),
    "full": Size(epochs=60, batches=(32, 2, 1), seeds=3),
}

NETWORKS = {
    "resnet": functools.partial(
        models.ResNet,
        stages=(3, 3, 3),
        block=models.BasicBlock,
        width=16,
        stem="quartering",
    ),
    "vgg": functools.partial(VGG, stages=((32,) * 4, (64,) * 4), stride=4),
}


def configs(
    norms: tuple[str, ...],
    size: Size,
    *,
    devices: int,
    available: int,
    parallelism: str = "pmap",
) -> list[Config]:
    """The VGG at the largest batch, then ResNet-20 at every one."""
    shared = {"devices": devices, "available": available, "parallelism": parallelism}
    residual = [norm for norm in norms if norm in RESIDUAL]
    largest = Size(
        VGG_LONGER * size.epochs, (max(size.batches),), size.seeds, size.examples
    )
    runs = plan.configs(norms, largest, VGG_RATES, networks=("vgg",), **shared)
    return runs + plan.configs(residual, size, RATES, networks=("resnet",), **shared)
