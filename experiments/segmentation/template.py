"""The set that the committed record is of: a brain at 2 mm per voxel.

Its back is trained on and its front is tested on. The brain is symmetric, so that left
and right would be the same region twice; the split runs across the axis from back to
front, with a gap between the parts as wide as most of a patch. Patches of slices and of
volumes hold as many voxels as the memory of a device does in the paper: one or two of
them make a batch.
"""

import functools
import pathlib

import numpy as np

from experiments.data import brain
from experiments.data.nifti import Volume
from experiments.lab import Size
from experiments.segmentation.sets import Cases, Geometry, Set, Words
from flax_gn import models

HALVINGS = 1
# Of the axis from back to front, in voxels of 2 mm; the brain lies in 14 to 104.
TRAIN, TEST = (0, 60), (72, 104)
SHOWN = 40  # the slice of the pictures, from the bottom


def split(
    volume: Volume, train: tuple[int, int], test: tuple[int, int]
) -> tuple[Volume, Volume]:
    """What is trained on and what is tested on.

    Raises:
      ValueError: the volume is too short to hold both.
    """
    if volume.image.shape[1] < test[1]:
        raise ValueError(
            f"expected a volume of at least {test[1]} voxels from back to front, got "
            f"{volume.image.shape[1]}; take one of more, or move TEST"
        )
    back, front = (
        Volume(*(array[:, low:high] for array in volume)) for low, high in (train, test)
    )
    return back, front


def read(
    folder: pathlib.Path | None,
    most: int | None,
    *,
    train: tuple[int, int] = TRAIN,
    test: tuple[int, int] = TEST,
    shown: int = SHOWN,
) -> Cases:
    """The `Set.cases` of the template, which is one."""
    del most
    back, front = (
        Volume(volume.image[..., None], volume.labels)
        for volume in split(brain.load(folder, halvings=HALVINGS), train, test)
    )
    return Cases(
        name=brain.NAME,
        classes=brain.CLASSES,
        channels=1,
        # Where there is brain.
        train=[(back, np.argwhere(back.image[..., 0] > 0))],
        test=[front],
        whole=True,
        slice=shown,
    )


TEMPLATE = Set(
    cases=read,
    geometries={
        "2d": Geometry(
            shape=(32, 32, 1),
            step=(32, 32, 4),
            network=functools.partial(models.UNet, width=16, levels=2),
        ),
        "3d": Geometry(
            shape=(16, 16, 16),
            step=(16, 16, 16),
            network=functools.partial(models.UNet, width=8, levels=2),
        ),
    },
    epoch=64,
    evaluation_batch=8,
    rate=0.512,  # 0.002 for one
    sizes={
        "default": Size(epochs=16, batches=(2, 1), seeds=3),
        "quick": Size(epochs=1, batches=(1,), seeds=1),
    },
    words=Words(
        measures="grey matter, white matter and neither, and mean Dice coefficient of "
        "grey and white matter",
        tested="of the region held out",
        image="T1 image",
        truth="truth: grey and white matter",
    ),
)
