"""A task of the Medical Segmentation Decathlon, at a size for one GPU.

A case is read once and kept in the user's cache as bytes that patches are cut from, as
patches of an epoch come from all cases: a compressed volume takes seconds to read.
"""

import functools
import pathlib
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from experiments.data import decathlon, files
from experiments.data.decathlon import Case, Decathlon
from experiments.data.nifti import Volume
from experiments.lab import Size
from experiments.segmentation.sets import Cases, Geometry, Set, Words
from flax_gn import models

VOXELS = 10_000  # of a case that patches are drawn around, half of them labelled
TEST_CASES, FEW_CASES = 16, 2  # at the most: the largest tasks have 96
_SEED = 0


class Kept(Sequence):
    """Cases, read when they are first asked for.

    Args:
      of: the task.
      cases: some of its cases.
      folder: to keep them in.
    """

    def __init__(self, of: Decathlon, cases: Sequence[Case], folder: pathlib.Path):
        self._of, self._cases, self._folder = of, cases, folder

    def __len__(self) -> int:
        return len(self._cases)

    def __getitem__(self, index):
        path = self.keep(self._cases[index])
        image, labels, voxels = (
            np.load(path / f"{name}.npy", mmap_mode="r")
            for name in ("image", "labels", "voxels")
        )
        return Volume(image, labels), voxels

    def keep(self, case: Case) -> pathlib.Path:
        """The folder that the case is kept in; reads it if it is not there yet."""
        # A file that changes is another case.
        marks = [f"{p.stat().st_size}-{p.stat().st_mtime_ns}" for p in case]
        folder = self._folder / "-".join([case.image.name.partition(".")[0], *marks])
        if not folder.exists():
            volume = decathlon.read(case, self._of)
            unfinished = folder.with_suffix(".unfinished")
            unfinished.mkdir(parents=True, exist_ok=True)
            for name, array in (
                ("image", volume.image),
                ("labels", volume.labels),
                ("voxels", _voxels(volume)),
            ):
                np.save(unfinished / f"{name}.npy", array)
            unfinished.rename(folder)
        return folder


def read(folder: pathlib.Path | None, most: int | None) -> Cases:
    """The `Set.cases` of a task; reads all cases that are not kept yet."""
    found = decathlon.load(folder)
    cache = files.cache_folder("decathlon-kept") / found.name
    chosen = found.train[:most], found.test[: FEW_CASES if most else TEST_CASES]
    train, test = (Kept(found, cases, cache) for cases in chosen)
    for case in tqdm([*chosen[0], *chosen[1]], unit=" cases", disable=None):
        train.keep(case)
    volumes = [volume for volume, _ in test]
    return Cases(
        name=f"{decathlon.NAME} {found.name}",
        classes=found.classes,
        channels=len(found.modalities),
        train=train,
        test=volumes,
        whole=False,
        # Where there is most to see.
        slice=int(np.argmax(np.count_nonzero(volumes[0].labels, axis=(0, 1)))),
    )


def _voxels(volume: Volume) -> np.ndarray:
    """Half of them of some class but the first, half of them anywhere."""
    rng = np.random.default_rng(_SEED)
    labelled = np.flatnonzero(volume.labels)
    parts = [rng.integers(0, volume.labels.size, VOXELS // 2)]
    if len(labelled):
        parts.append(rng.choice(labelled, VOXELS // 2))
    places = np.unravel_index(np.concatenate(parts), volume.labels.shape)
    return np.stack(places, axis=-1)


ORGANS = Set(
    cases=read,
    geometries={
        "2d": Geometry(
            shape=(128, 128, 1),
            step=(128, 128, 1),
            network=functools.partial(models.UNet, width=32, levels=4),
        ),
        # What holds a hippocampus whole, and a part of larger organs.
        "3d": Geometry(
            shape=(48, 48, 48),
            step=(48, 48, 48),
            network=functools.partial(models.UNet, width=32, levels=4),
        ),
    },
    epoch=512,
    evaluation_batch=8,
    rate=0.128,  # 0.0005 for one; nothing was searched
    sizes={
        "default": Size(epochs=40, batches=(2, 1), seeds=1),
        "quick": Size(epochs=1, batches=(1,), seeds=1, examples=16),
    },
    words=Words(
        measures="all classes and mean Dice coefficient of all but the first",
        tested="of the cases held out",
        image="image",
        truth="truth",
    ),
)
