"""Boxes of voxels cut out of a volume."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.data.brain import Volume

PADDING = 255  # as a label: no voxel of the volume


class Patches(NamedTuple):
    """images and labels uint8, (n, *sides); axes of one voxel are left out."""

    images: Any
    labels: Any


def cut(
    volume: Volume, corners: Sequence[Sequence[int]] | np.ndarray, shape: Sequence[int]
) -> Patches:
    """The patches of ``shape`` that begin at ``corners``, (n, 3).

    >>> volume = Volume(np.arange(8).reshape(2, 2, 2), np.zeros((2, 2, 2), np.uint8))
    >>> cut(volume, [(0, 0, 1)], (2, 2, 1)).images.tolist()
    [[[1, 3], [5, 7]]]
    """
    sides = [side for side in shape if side > 1]
    images, labels = (
        np.stack([array[_box(corner, shape)] for corner in corners]) for array in volume
    )
    return Patches(*(a.reshape(len(corners), *sides) for a in (images, labels)))


def grid(volume: Volume, shape: Sequence[int], step: Sequence[int]) -> np.ndarray:
    """The corners (n, 3) of whole patches, ``step`` apart, that hold any of the brain.

    >>> image = np.zeros((4, 5, 1), np.uint8)
    >>> image[3, 1] = 9
    >>> grid(Volume(image, image), (2, 2, 1), (2, 1, 1)).tolist()
    [[2, 0, 0], [2, 1, 0]]
    """
    starts = [
        range(0, whole - side + 1, by)
        for whole, side, by in zip(volume.image.shape, shape, step, strict=True)
    ]
    corners = np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, 3)
    held = [volume.image[_box(corner, shape)].any() for corner in corners]
    return corners[held]


def drawn(
    volume: Volume,
    voxels: np.ndarray,
    shape: Sequence[int],
    seed: int,
    epoch: int,
    start: int,
    n: int,
    *,
    augment: bool = True,
) -> Patches:
    """Patches ``start`` to ``start + n`` of an epoch, each around a voxel of the brain.

    A patch holds its voxel anywhere, as far as the volume's edges allow. What is drawn
    depends on the position in the epoch alone.

    Args:
      volume: to cut from.
      voxels: (m, 3), one of which lies in each patch.
      shape: of a patch.
      seed: of the run.
      epoch: counted from 0.
      start: position of the first patch in the epoch.
      n: how many.
      augment: whether to mirror patches along each axis with a chance of one half.
    """
    limits = np.array(volume.image.shape) - shape
    # Two counter blocks of four numbers for each patch.
    bits = np.random.Philox(key=[seed, epoch]).advance(2 * start)
    draws = bits.random_raw(8 * n).reshape(n, 8)
    middles = voxels[(draws[:, 0] % len(voxels)).astype(int)]
    offsets = (draws[:, 1:4] % np.array(shape, np.uint64)).astype(int)
    found = cut(volume, np.clip(middles - offsets, 0, limits), shape)
    if augment:
        for index, draw in enumerate(draws):
            backwards = draw[4 : 3 + found.images.ndim] >> 63
            steps = tuple(slice(None, None, -1 if back else 1) for back in backwards)
            for array in found:
                array[index] = array[index][steps].copy()
    return found


def assembled(
    values: np.ndarray, corners: np.ndarray, shape: Sequence[int], of: Sequence[int]
) -> np.ndarray:
    """A volume of shape ``of`` with patches put where they were cut, elsewhere zero."""
    whole = np.zeros(of, values.dtype)
    for value, corner in zip(values, corners, strict=True):
        whole[_box(corner, shape)] = value.reshape(shape)
    return whole


def _box(corner: Sequence[int] | np.ndarray, shape: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(a, a + side) for a, side in zip(corner, shape, strict=True))
