"""Which examples a step sees, and how they are flipped and shifted."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

SHIFT = 2  # pixels, at most, in each direction; zeros come in


def order(seed: int, epoch: int, available: int, taken: int) -> np.ndarray:
    """Indices of an epoch's examples: ``taken`` of a fresh permutation.

    It depends on neither norm nor batch, so that runs compare on the same data.
    """
    return np.random.default_rng([seed, epoch]).permutation(available)[:taken]


def augment(images: np.ndarray, seed: int, epoch: int, start: int) -> np.ndarray:
    """Flips half of the images and shifts all of them by up to `SHIFT` pixels.

    Args:
      images: uint8, (n, H, W, C), examples ``start`` to ``start + n`` of an epoch.
      seed: of the run.
      epoch: counted from 0.
      start: position in the epoch of the first image. What happens to an image depends
        on its position alone, not on how an epoch is cut into pieces.
    """
    n, height, width, _ = images.shape
    # One counter block per image: `advance` jumps to the first in constant time.
    bits = np.random.Philox(key=[seed, epoch]).advance(start)
    draws = bits.random_raw(4 * n).reshape(n, 4)
    flipped = (draws[:, 0] >> 63).astype(bool)
    down, right = (draws[:, k] % (2 * SHIFT + 1) for k in (1, 2))
    images = np.where(flipped[:, None, None, None], images[:, :, ::-1], images)
    padded = np.pad(images, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(
        padded, (height, width), axis=(1, 2)
    )
    shifted = windows[np.arange(n), down, right]  # (n, C, H, W)
    return np.ascontiguousarray(np.moveaxis(shifted, 1, -1))


def batches(examples: Any, size: int, padding: Any) -> Iterator[Any]:
    """Cuts a test set into equal batches, the last one padded.

    Args:
      examples: a tree of arrays (n, ...).
      size: examples in a batch.
      padding: the like tree of what stands in the place of examples at the end.

    >>> [batch.tolist() for batch in batches(np.array([4, 5, 6]), 2, -1)]
    [[4, 5], [6, -1]]
    """

    def part(array: np.ndarray, value: int, start: int) -> np.ndarray:
        part = array[start : start + size]
        missing = [(0, size - len(part))] + [(0, 0)] * (array.ndim - 1)
        return np.pad(part, missing, constant_values=value)

    for start in range(0, len(jax.tree.leaves(examples)[0]), size):
        yield jax.tree.map(functools.partial(part, start=start), examples, padding)
