"""The recipe: a brain at 2 mm per voxel, its back to train on and its front to test.

The brain is symmetric, so that left and right would be the same region twice; the split
runs across the axis from back to front, with a gap between the parts as wide as most of
a patch. Patches of slices and of volumes hold as many voxels as the memory of a device
does in the paper: one or two of them make a batch.

Unlike the paper's Mask R-CNN: nothing is trained before on anything else, so that there
are no statistics to freeze batch norm with, and batch norm is as it comes; and Adam
takes the steps, since they are few.
"""

import functools
from typing import NamedTuple

from experiments.data.brain import CLASSES, Volume
from experiments.lab import Size, plan
from experiments.training import Config
from flax_gn import models

NORMS = ("bn", "gn")
DEVICES = 1
HALVINGS = 1
# Of the axis from back to front, in voxels of 2 mm; the brain lies in 14 to 104.
TRAIN, TEST = (0, 60), (72, 104)
SHOWN = 40  # the slice of the pictures, from the bottom
EPOCH = 64  # patches
EVALUATION_BATCH = 8
RATE = 0.512  # per 256 patches: 0.002 for one


class Geometry(NamedTuple):
    """The shape of patches and the steps between test patches, in voxels.

    And the width of the network.
    """

    shape: tuple[int, int, int]
    step: tuple[int, int, int]
    width: int


GEOMETRIES = {
    "2d": Geometry(shape=(32, 32, 1), step=(32, 32, 4), width=16),
    "3d": Geometry(shape=(16, 16, 16), step=(16, 16, 16), width=8),
}
SIZES = {
    "default": Size(epochs=16, batches=(2, 1), seeds=3),
    "quick": Size(epochs=1, batches=(1,), seeds=1),
}


def network(name: str, **arguments):
    """The U-Net for patches of a geometry."""
    make = functools.partial(models.UNet, width=GEOMETRIES[name].width, levels=2)
    return make(**arguments)


def split(volume: Volume) -> tuple[Volume, Volume]:
    """What is trained on and what is tested on.

    Raises:
      ValueError: the volume is too short to hold both.
    """
    if volume.image.shape[1] < TEST[1]:
        raise ValueError(
            f"expected a volume of at least {TEST[1]} voxels from back to front, got "
            f"{volume.image.shape[1]}; take one of more, or move TEST"
        )
    train, test = (
        Volume(*(array[:, low:high] for array in volume)) for low, high in (TRAIN, TEST)
    )
    return train, test


def configs(norms: tuple[str, ...], size: Size) -> list[Config]:
    """One config per dimension, norm, batch and seed.

    Raises:
      ValueError: a batch does not divide the patches of an epoch.
    """
    return plan.grid(
        norms,
        size,
        dict.fromkeys(norms, RATE),
        networks=tuple(GEOMETRIES),
        devices=DEVICES,
        epoch_examples=EPOCH,
        evaluation_batch=EVALUATION_BATCH,
        **plan.ADAM,
    )


__all__ = ["CLASSES", "GEOMETRIES", "NORMS", "SIZES", "configs", "network", "split"]
