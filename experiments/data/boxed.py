"""What the sets for detection have in common: a picture and the boxes in it."""

import dataclasses
import pathlib
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """A picture and the boxes of the objects in it.

    Attributes:
      image: uint8, (H, W, 3).
      boxes: float32, (n, 4): left, top, right and bottom edge in pixels, counted from
        the outer edge of the first pixel.
      classes: int32, (n,), of the objects, from 0; all of class 0 by default.
    """

    image: np.ndarray
    boxes: np.ndarray
    classes: Any = None

    def __post_init__(self):
        if self.classes is None:
            object.__setattr__(self, "classes", np.zeros(len(self.boxes), np.int32))

    def halved(self) -> "Picture":
        """The picture at half the resolution; an odd last row or column is lost.

        >>> picture = Picture(np.full((3, 2, 3), 7, np.uint8), np.ones((1, 4)))
        >>> picture.halved().image.shape, picture.halved().boxes.tolist()
        ((1, 1, 3), [[0.5, 0.5, 0.5, 0.5]])
        """
        height, width = (side // 2 for side in self.image.shape[:2])
        fours = self.image[: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3)
        image = np.round(fours.mean((1, 3), dtype=np.float32)).astype(np.uint8)
        limits = np.array([width, height, width, height], np.float32)
        boxes = np.minimum(self.boxes / 2, limits).astype(np.float32)
        return Picture(image, boxes, self.classes)

    def scaled(self, longest: int) -> "Picture":
        """The picture with a longer side of so many pixels, and the like shape.

        >>> picture = Picture(np.zeros((4, 8, 3), np.uint8), np.full((1, 4), 4.0))
        >>> picture.scaled(6).image.shape, picture.scaled(6).boxes.tolist()
        ((3, 6, 3), [[3.0, 3.0, 3.0, 3.0]])
        """
        import PIL.Image

        before = self.image.shape[1], self.image.shape[0]
        after = fitting(*before, longest)
        image = PIL.Image.fromarray(self.image).resize(
            after, PIL.Image.Resampling.BILINEAR
        )
        boxes = stretched(self.boxes, before, after)
        return Picture(np.asarray(image), boxes, self.classes)


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """A picture on disk, and what its annotations say.

    Attributes:
      path: of the picture.
      width: of the picture, in pixels.
      height: likewise.
      boxes: float32, (n, 4): left, top, right and bottom, inside the picture.
      classes: int32, (n,), from 0.
      crowd: bool, (n,): whether a box is around a crowd of unnumbered objects.
    """

    path: pathlib.Path
    width: int
    height: int
    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray

    def objects(self) -> "Scene":
        """Without the crowds."""
        return self._of(np.flatnonzero(~self.crowd))

    def largest(self, most: int) -> "Scene":
        """With no more than so many boxes, the largest ones."""
        sides = self.boxes[:, 2:] - self.boxes[:, :2]
        chosen = np.argsort(-sides.prod(1), kind="stable")[:most]
        return self._of(np.sort(chosen))

    def read(self) -> Picture:
        """The picture, in colour whatever the file, and its boxes.

        Raises:
          ValueError: the file is missing or damaged, or of another size than the
            annotations say.
        """
        import PIL.Image

        try:
            with PIL.Image.open(self.path) as file:
                size = file.size
                image = np.asarray(file.convert("RGB"))
        except OSError as error:
            raise ValueError(
                f"{self.path}: expected a whole picture, got one that cannot be read "
                f"({error}); unpack or fetch it again"
            ) from error
        if size != (self.width, self.height):
            raise ValueError(
                f"{self.path}: expected {self.width}x{self.height} pixels, as its "
                f"annotations say, got {size[0]}x{size[1]}; they belong to another "
                "picture"
            )
        return Picture(image, self.boxes, self.classes)

    def _of(self, rows: np.ndarray) -> "Scene":
        return dataclasses.replace(
            self,
            boxes=self.boxes[rows],
            classes=self.classes[rows],
            crowd=self.crowd[rows],
        )


def fitting(width: int, height: int, longest: int) -> tuple[int, int]:
    """The sides in the same proportion, the longer one of so many pixels.

    >>> fitting(8, 4, 6), fitting(3, 900, 6)
    ((6, 3), (1, 6))
    """
    part = longest / max(width, height)
    return max(1, round(part * width)), max(1, round(part * height))


def stretched(
    boxes: np.ndarray, before: tuple[int, int], after: tuple[int, int]
) -> np.ndarray:
    """Boxes (n, 4) of a picture whose width and height have become others.

    >>> stretched(np.array([[0, 0, 7, 5]]), (7, 5), (4, 3)).tolist()
    [[0.0, 0.0, 4.0, 3.0]]
    """
    factors = np.tile(np.array(after) / before, 2)
    return (boxes * factors).astype(np.float32)
