"""The recipe: ResNet-14 at 32 and 2 examples per device, and a VGG of 8 convolutions.

ResNet-14 has rates that a search on held-out images found for a shallower one. The VGG
has one rate for all, as the paper's, low enough for eight convolutions without norm or
shortcuts.
"""

import functools

from experiments.lab import Size, plan
from experiments.training import Config
from experiments.training.vgg import VGG
from flax_gn import models

NORMS = ("none", "bn", "gn")
RESIDUAL = ("bn", "gn")  # without a norm, blocks that start at zero do not compare
# Found with one block a stage on eight devices, for the committed record.
RATES = {"bn": 0.8, "gn": 0.4}
VGG_RATES = {"none": 0.1, "bn": 0.1, "gn": 0.1}

SIZES = {
    "default": Size(epochs=30, batches=(32, 2), seeds=3, examples=5120),
    "quick": Size(epochs=1, batches=(32,), seeds=1, examples=512),
    "full": Size(epochs=60, batches=(32, 2), seeds=3),
}

NETWORKS = {
    "resnet": functools.partial(
        models.ResNet,
        stages=(2, 2, 2),
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
    """The VGG at the largest batch, then ResNet-14 at every one."""
    shared = {"devices": devices, "available": available, "parallelism": parallelism}
    residual = [norm for norm in norms if norm in RESIDUAL]
    # The same epochs as the others': every batch divides the examples of the largest.
    largest = Size(size.epochs, (max(size.batches),), size.seeds, size.examples)
    runs = plan.configs(norms, largest, VGG_RATES, networks=("vgg",), **shared)
    return runs + plan.configs(residual, size, RATES, networks=("resnet",), **shared)
