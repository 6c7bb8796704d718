"""Squares cut out of pictures, with the boxes that lie in them."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.data.boxed import Picture

# Of a box, the least part that has to lie in a tile for it to count there.
PART = 0.5
# Where a picture does not fill its tile. The network sees about 0 there.
PADDING = 127


class Tiles(NamedTuple):
    """images uint8 (n, S, S, 3); boxes float32 (n, MOST, 4), padded with zeros.

    And classes int32 (n, MOST), of the boxes, likewise.
    """

    images: Any
    boxes: Any
    classes: Any


@dataclasses.dataclass(frozen=True)
class Shape:
    """side: of a tile in pixels; most: boxes in one, at the most."""

    side: int
    most: int


def cut(picture: Picture, top: int, left: int, height: int, width: int) -> Picture:
    """A part of a picture, and the boxes of which `PART` or more lies in it, clipped.

    >>> picture = Picture(np.zeros((8, 8, 3), np.uint8), np.array([[0.0, 0, 4, 4]]))
    >>> cut(picture, 2, 0, 4, 4).boxes.tolist(), len(cut(picture, 3, 0, 4, 4).boxes)
    ([[0.0, 0.0, 4.0, 2.0]], 0)
    """
    low = np.array([left, top, left, top], picture.boxes.dtype)
    high = low + np.array([width, height, width, height], low.dtype)
    inside = np.clip(picture.boxes, np.tile(low[:2], 2), np.tile(high[2:], 2))
    enough = _area(inside) >= PART * _area(picture.boxes)
    return Picture(
        picture.image[top : top + height, left : left + width],
        (inside - low)[enough],
        picture.classes[enough],
    )


def stack(parts: Sequence[Picture], shape: Shape) -> Tiles:
    """Pictures as arrays; `PADDING` right of those that are smaller, and below them.

    Raises:
      ValueError: one has more boxes than ``shape.most``.
    """
    crowd = max((len(part.boxes) for part in parts), default=0)
    if crowd > shape.most:
        raise ValueError(
            f"expected at most {shape.most} boxes in a tile, got {crowd}; allow for "
            "more, or take smaller tiles"
        )
    boxes = np.zeros((len(parts), shape.most, 4), np.float32)
    classes = np.zeros((len(parts), shape.most), np.int32)
    images = np.full((len(parts), shape.side, shape.side, 3), PADDING, np.uint8)
    for index, part in enumerate(parts):
        height, width = part.image.shape[:2]
        images[index, :height, :width] = part.image
        boxes[index, : len(part.boxes)] = part.boxes
        classes[index, : len(part.boxes)] = part.classes
    return Tiles(images, boxes, classes)


def grid(picture: Picture, shape: Shape) -> Tiles:
    """All whole tiles side by side, row by row; what remains at the edges is left."""
    side = shape.side
    height, width = picture.image.shape[:2]
    parts = [
        cut(picture, top, left, side, side)
        for top in range(0, height - side + 1, side)
        for left in range(0, width - side + 1, side)
    ]
    return stack(parts, shape)


def drawn(
    picture: Picture,
    shape: Shape,
    seed: int,
    epoch: int,
    start: int,
    n: int,
    *,
    augment: bool = True,
) -> Tiles:
    """Tiles ``start`` to ``start + n`` of an epoch, each around a box drawn at random.

    A tile holds the middle of its box anywhere, as far as the picture's edges allow. So
    that it says something about boxes, as the pictures of COCO that are trained on do.
    What is drawn depends on the position in the epoch alone.

    Args:
      picture: to cut from.
      shape: of the tiles.
      seed: of the run.
      epoch: counted from 0.
      start: position of the first tile in the epoch.
      n: how many.
      augment: whether to mirror tiles, left to right, top to bottom and along their
        diagonal, each with a chance of one half.
    """
    side = shape.side
    limits = np.array(picture.image.shape[:2]) - side
    # Two counter blocks of four numbers for each tile.
    bits = np.random.Philox(key=[seed, epoch]).advance(2 * start)
    draws = bits.random_raw(8 * n).reshape(n, 8)
    parts = []
    for draw in draws:
        box = picture.boxes[int(draw[0] % len(picture.boxes))]
        middle = np.array([box[1] + box[3], box[0] + box[2]]) // 2
        corner = np.clip(middle - (draw[1:3] % side).astype(int), 0, limits)
        top, left = corner.astype(int)
        part = cut(picture, top, left, side, side)
        parts.append(mirrored(part, draw[3:6] >> 63) if augment else part)
    return stack(parts, shape)


def mirrored(part: Picture, mirrors: Sequence[int] | np.ndarray) -> Picture:
    """A picture mirrored left to right, top to bottom and along its diagonal.

    Args:
      part: of any shape.
      mirrors: three numbers; 0 leaves that mirror out.
    """
    image, boxes = part.image, part.boxes
    height, width = image.shape[:2]
    across, down, diagonal = mirrors
    if across:
        image = image[:, ::-1]
        boxes = boxes * [-1, 1, -1, 1] + [width, 0, width, 0]
        boxes = boxes[:, [2, 1, 0, 3]]
    if down:
        image = image[::-1]
        boxes = boxes * [1, -1, 1, -1] + [0, height, 0, height]
        boxes = boxes[:, [0, 3, 2, 1]]
    if diagonal:
        image = image.swapaxes(0, 1)
        boxes = boxes[:, [1, 0, 3, 2]]
    return Picture(image, boxes.astype(np.float32), part.classes)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
