"""Boxes of voxels cut out of a volume."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.data.nifti import Volume

PADDING = 255  # as a label: no voxel of the volume


class Patches(NamedTuple):
    """images (n, *sides) or (n, *sides, C) and labels (n, *sides), uint8.

    Axes of one voxel are left out.
    """

    images: Any
    labels: Any


def cut(
    volume: Volume, corners: Sequence[Sequence[int]] | np.ndarray, shape: Sequence[int]
) -> Patches:
    """The patches of ``shape`` that begin at ``corners``, (n, 3).

    What stands over the edges is 0 in images and `PADDING` in labels.

    >>> volume = Volume(np.arange(8).reshape(2, 2, 2), np.zeros((2, 2, 2), np.uint8))
    >>> cut(volume, [(0, 0, 1)], (2, 2, 1)).images.tolist()
    [[[1, 3], [5, 7]]]
    """
    sides = [side for side in shape if side > 1]
    images, labels = (
        np.stack([_part(array, corner, shape, value) for corner in corners])
        for array, value in zip(volume, (0, PADDING), strict=True)
    )
    return Patches(
        images.reshape(len(corners), *sides, *images.shape[4:]),
        labels.reshape(len(corners), *sides),
    )


def grid(
    volume: Volume, shape: Sequence[int], step: Sequence[int], *, whole: bool = True
) -> np.ndarray:
    """The corners (n, 3) of patches, ``step`` apart, that hold anything of the image.

    Args:
      volume: to cut from.
      shape: of a patch.
      step: along each axis.
      whole: whether to leave out those that would stand over the edges.

    >>> image = np.zeros((4, 5, 1), np.uint8)
    >>> image[3, 1] = 9
    >>> grid(Volume(image, image), (2, 2, 1), (2, 1, 1)).tolist()
    [[2, 0, 0], [2, 1, 0]]
    """
    starts = [
        range(0, length - side + 1 if whole else length, by)
        for length, side, by in zip(volume.labels.shape, shape, step, strict=True)
    ]
    corners = np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, 3)
    held = [volume.image[_box(corner, shape)].any() for corner in corners]
    return corners[held]


def drawn(
    volumes: Sequence[tuple[Volume, np.ndarray]],
    shape: Sequence[int],
    seed: int,
    epoch: int,
    start: int,
    n: int,
    *,
    augment: bool = True,
) -> Patches:
    """Patches ``start`` to ``start + n`` of an epoch, each around one of some voxels.

    A patch holds its voxel anywhere, as far as the volume's edges allow. What is drawn
    depends on the position in the epoch alone.

    Args:
      volumes: to cut from, each with the voxels (m, 3) of which one lies in each patch.
      shape: of a patch.
      seed: of the run.
      epoch: counted from 0.
      start: position of the first patch in the epoch.
      n: how many.
      augment: whether to mirror patches along each axis with a chance of one half.
    """
    # Two counter blocks of four numbers for each patch.
    bits = np.random.Philox(key=[seed, epoch]).advance(2 * start)
    draws = bits.random_raw(8 * n).reshape(n, 8)
    found = [
        _drawn(*volumes[int(draw[7] % len(volumes))], shape, draw) for draw in draws
    ]
    patches = Patches(*map(np.concatenate, zip(*found, strict=True)))
    if augment:
        for index, draw in enumerate(draws):
            backwards = draw[4 : 3 + patches.labels.ndim] >> 63
            steps = tuple(slice(None, None, -1 if back else 1) for back in backwards)
            for array in patches:
                array[index] = array[index][steps].copy()
    return patches


def assembled(
    values: np.ndarray, corners: np.ndarray, shape: Sequence[int], of: Sequence[int]
) -> np.ndarray:
    """A volume of shape ``of`` with patches put where they were cut, elsewhere zero."""
    whole = np.zeros(of, values.dtype)
    for value, corner in zip(values, corners, strict=True):
        place = whole[_box(corner, shape)]
        place[...] = value.reshape(shape)[tuple(map(slice, place.shape))]
    return whole


def _drawn(volume, voxels, shape, draw) -> Patches:
    middle = voxels[int(draw[0] % len(voxels))]
    offset = (draw[1:4] % np.array(shape, np.uint64)).astype(int)
    limits = np.maximum(np.array(volume.labels.shape) - shape, 0)
    return cut(volume, np.clip(middle - offset, 0, limits)[None], shape)


def _part(array, corner, shape, padding):
    part = array[_box(corner, shape)]
    over = [(0, side - there) for side, there in zip(shape, part.shape, strict=False)]
    if not any(right for _, right in over):
        return part
    over += [(0, 0)] * (part.ndim - len(over))
    return np.pad(part, over, constant_values=padding)


def _box(corner: Sequence[int] | np.ndarray, shape: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(a, a + side) for a, side in zip(corner, shape, strict=True))
