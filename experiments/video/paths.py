"""Pictures of things moved along known paths; the direction is the label."""

from typing import Any, NamedTuple

import numpy as np

# Pixels down and to the right in a frame, at a speed of 1.
DIRECTIONS = {
    "right": (0, 1),
    "down and right": (1, 1),
    "down": (1, 0),
    "down and left": (1, -1),
    "left": (0, -1),
    "up and left": (-1, -1),
    "up": (-1, 0),
    "up and right": (-1, 1),
}
_STEPS = np.array(list(DIRECTIONS.values()))


class Clips(NamedTuple):
    """images uint8 (n, T, S, S); labels int32 (n,), or -1 where it is padding."""

    images: Any
    labels: Any


class Shape(NamedTuple):
    """Frames of a clip, the side of its square, and the pixels of the fastest thing."""

    frames: int
    side: int
    fastest: int


def shrunk(images: np.ndarray, halvings: int) -> np.ndarray:
    """Pictures in fewer pixels, each the mean of those in its place.

    Args:
      images: uint8, (n, H, W, 1).
      halvings: of both sides.

    Returns:
      uint8, (n, H / 2**halvings, W / 2**halvings).
    """
    n, height, width, _ = images.shape
    by = 2**halvings
    blocks = images.reshape(n, height // by, by, width // by, by)
    return np.round(blocks.mean((2, 4), dtype=np.float32)).astype(np.uint8)


def drawn(
    things: np.ndarray, shape: Shape, seed: int, epoch: int, start: int, n: int
) -> Clips:
    """Clips ``start`` to ``start + n`` of an epoch.

    In each, one thing moves straight on, by the same number of pixels in every frame,
    over another one that stands still; the brighter of the two is seen. Neither ever
    leaves the frame. A clip depends on its position in the epoch alone.

    Args:
      things: uint8, (m, h, w), that are moved.
      shape: of the clips.
      seed: of the run.
      epoch: counted from 0.
      start: position of the first clip in the epoch; every direction comes in turn.
      n: how many.

    Raises:
      ValueError: the frame is too small for the fastest thing.
    """
    way = (shape.frames - 1) * shape.fastest
    if shape.side < max(things.shape[1:]) + way:
        raise ValueError(
            f"expected frames of at least {max(things.shape[1:]) + way} pixels, for "
            f"things of {max(things.shape[1:])} that move {way}; got {shape.side}"
        )
    # Two counter blocks of four numbers for each clip.
    bits = np.random.Philox(key=[seed, epoch]).advance(2 * start)
    draws = bits.random_raw(8 * n).reshape(n, 8)
    labels = np.arange(start, start + n) % len(DIRECTIONS)
    images = np.zeros((n, shape.frames, shape.side, shape.side), np.uint8)
    for clip, label, draw in zip(images, labels, draws, strict=True):
        moving, still = (things[int(which % len(things))] for which in draw[:2])
        step = _STEPS[label] * (1 + int(draw[2] % shape.fastest))
        room = shape.side - np.array(moving.shape)
        whole = (shape.frames - 1) * step
        # From where the thing stays inside, to the end of its way.
        first = np.maximum(0, -whole) + draw[3:5] % (room - abs(whole) + 1)
        _put(clip, still, (draw[5:7] % (room + 1)).astype(int))
        for index, frame in enumerate(clip):
            _put(frame, moving, first.astype(int) + index * step)
    return Clips(images, labels.astype(np.int32))


def _put(frames: np.ndarray, thing: np.ndarray, corner: np.ndarray) -> None:
    """Lays a thing into a frame, or into the same place in all frames."""
    (top, left), (height, width) = corner, thing.shape
    part = frames[..., top : top + height, left : left + width]
    np.maximum(part, thing, out=part)
