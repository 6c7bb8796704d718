"""What the sets for detection have in common: a picture and the boxes in it."""

import dataclasses
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

        height, width = self.image.shape[:2]
        part = longest / max(height, width)
        size = [max(1, round(part * side)) for side in (width, height)]
        image = PIL.Image.fromarray(self.image).resize(
            (size[0], size[1]), PIL.Image.Resampling.BILINEAR
        )
        factors = np.array(size * 2, np.float32) / [width, height, width, height]
        boxes = (self.boxes * factors).astype(np.float32)
        return Picture(np.asarray(image), boxes, self.classes)
