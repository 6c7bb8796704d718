"""What the recipe has to know of a set of volumes."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax import linen as nn

from experiments.data.nifti import Volume
from experiments.lab import Size
from experiments.segmentation import patches
from experiments.segmentation.patches import PADDING, Patches
from experiments.training import examples


class Geometry(NamedTuple):
    """The shape of patches and the steps between test patches, in voxels.

    A patch with one side of 1 is a slice, and its network is two-dimensional.
    """

    shape: tuple[int, int, int]
    step: tuple[int, int, int]
    network: Callable[..., nn.Module]


@dataclasses.dataclass(frozen=True, eq=False)
class Cases:
    """Volumes to train on and others to test on.

    Attributes:
      name: of the set, for the record.
      classes: the name of each label.
      channels: of the images.
      train: volumes, each with the voxels (m, 3) that patches are drawn around.
      test: volumes.
      whole: whether test patches that stand over an edge are left out.
      slice: which one of the first test volume is drawn, from the bottom.
    """

    name: str
    classes: tuple[str, ...]
    channels: int
    train: Sequence[tuple[Volume, np.ndarray]]
    test: Sequence[Volume]
    whole: bool
    slice: int
    _corners: dict[Geometry, list[np.ndarray]] = dataclasses.field(
        default_factory=dict, repr=False
    )

    def drawn(
        self, of: Geometry, seed: int, epoch: int, start: int, n: int, *, augment: bool
    ) -> Patches:
        """Patches ``start`` to ``start + n`` of an epoch; see `patches.drawn`."""
        return patches.drawn(
            self.train, of.shape, seed, epoch, start, n, augment=augment
        )

    def batches(self, of: Geometry, size: int) -> Iterator[Patches]:
        """The test patches of one volume after another; each ends in padding."""
        for volume, corners in zip(self.test, self.corners(of), strict=True):
            for start in range(0, len(corners), size):
                part = patches.cut(volume, corners[start : start + size], of.shape)
                yield from examples.batches(part, size, Patches(0, PADDING))

    def corners(self, of: Geometry) -> list[np.ndarray]:
        """Those of the test patches (n, 3), of each volume."""
        if of not in self._corners:  # every volume is looked through for it
            self._corners[of] = [
                patches.grid(volume, of.shape, of.step, whole=self.whole)
                for volume in self.test
            ]
        return self._corners[of]

    def shown(self) -> tuple[np.ndarray, np.ndarray]:
        """The image, in its first channel, and the labels of the slice."""
        volume = self.test[0]
        return volume.image[:, :, self.slice, 0], volume.labels[:, :, self.slice]

    def said(self, of: Geometry, said: Iterator[np.ndarray]) -> np.ndarray:
        """What is said of the slice, from what is said of each batch of patches."""
        corners = self.corners(of)[0]
        first: list[np.ndarray] = []
        for part in said:
            first += list(part)
            if len(first) >= len(corners):
                break
        whole = patches.assembled(
            np.stack(first[: len(corners)]),
            corners,
            of.shape,
            self.test[0].labels.shape,
        )
        return whole[:, :, self.slice]


@dataclasses.dataclass(frozen=True)
class Words:
    """How caption and figure speak of a set.

    Attributes:
      measures: what IoU and Dice are of.
      tested: where the test patches are from.
      image: the title of a slice.
      truth: the title of its labels.
    """

    measures: str
    tested: str
    image: str
    truth: str


@dataclasses.dataclass(frozen=True)
class Set:
    """A set and how it is trained on.

    Attributes:
      cases: reads it from a folder, or from where it lies by default; a number says
        that few cases will do. Raises OSError or ValueError.
      geometries: by the name of their network.
      epoch: patches.
      evaluation_batch: patches per step of the evaluation.
      rate: peak learning rate of Adam, for 256 patches.
      sizes: by name.
      words: for the report.
    """

    cases: Callable[[pathlib.Path | None, int | None], Cases]
    geometries: Mapping[str, Geometry]
    epoch: int
    evaluation_batch: int
    rate: float
    sizes: Mapping[str, Size]
    words: Words

    def record(self, of: Cases) -> dict[str, Any]:
        """The shape and the number of the test patches, by network."""
        return {
            name: {
                "shape": list(geometry.shape),
                "test": sum(map(len, of.corners(geometry))),
            }
            for name, geometry in self.geometries.items()
        }
