"""Tiles made of photographs on disk, each read when it is needed."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from experiments.data.boxed import Picture, Scene, fitting, stretched
from experiments.detection import tiles
from experiments.training import examples


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
    """Tiles to train on, each of one photograph.

    Photographs have an up and a down, so that they are mirrored left to right alone.
    """

    scenes: Sequence[Scene]
    shape: tiles.Shape

    def drawn(
        self, seed: int, epoch: int, start: int, n: int, *, augment: bool
    ) -> tiles.Tiles:
        """Tiles ``start`` to ``start + n`` of an epoch, each of a picture at random.

        Args:
          seed: of the run.
          epoch: counted from 0.
          start: position of the first tile in the epoch.
          n: how many.
          augment: whether to scale a picture so that its longer side has up to a
            quarter more pixels than a tile, cut the tile out anywhere, and mirror it
            with a chance of one half. Otherwise the picture just fits.
        """
        # Two counter blocks of four numbers for each tile.
        bits = np.random.Philox(key=[seed, epoch]).advance(2 * start)
        draws = bits.random_raw(8 * n).reshape(n, 8).tolist()
        parts = _at_once(lambda draw: self._part(draw, augment=augment), draws)
        return tiles.stack(parts, self.shape)

    def _part(self, draw: Sequence[int], *, augment: bool) -> Picture:
        side = self.shape.side
        picture = self.scenes[draw[0] % len(self.scenes)].read()
        if not augment:
            return picture.scaled(side)
        picture = picture.scaled(side + draw[1] % (side // 4 + 1))
        top, left = (
            number % (max(0, length - side) + 1)
            for number, length in zip(draw[2:4], picture.image.shape, strict=False)
        )
        part = tiles.cut(picture, top, left, side, side)
        return tiles.mirrored(part, [draw[4] >> 63, 0, 0])


@dataclasses.dataclass(frozen=True, eq=False)
class Whole:
    """Tiles to test on: whole photographs, scaled so that they just fit.

    Attributes:
      scenes: the photographs, with their crowds.
      shape: of the tiles. Of more boxes than it allows for the largest are in the
        tiles, for their loss; `truth` has them all.
    """

    scenes: Sequence[Scene]
    shape: tiles.Shape

    def __len__(self) -> int:
        return len(self.scenes)

    def batches(self, size: int) -> Iterator[tiles.Tiles]:
        """The tiles in equal batches, padded at the end."""
        for start in range(0, len(self), size):
            parts = _at_once(self._fit, self.scenes[start : start + size])
            batch = tiles.stack(parts, self.shape)
            yield from examples.batches(batch, size, tiles.Tiles(0, 0, 0))

    def truth(self) -> list[np.ndarray]:
        """Rows of a box, in pixels of the tile, its class, and whether it is a crowd.

        No picture is read.
        """
        found = []
        for scene in self.scenes:
            before = scene.width, scene.height
            after = fitting(*before, self.shape.side)
            boxes = stretched(scene.boxes, before, after)
            found.append(np.column_stack([boxes, scene.classes, scene.crowd]))
        return found

    def image(self, index: int) -> np.ndarray:
        """One of the tiles."""
        return tiles.stack([self._fit(self.scenes[index])], self.shape).images[0]

    def _fit(self, scene: Scene) -> Picture:
        return scene.objects().largest(self.shape.most).read().scaled(self.shape.side)


def _at_once(make: Callable[[Any], Picture], items: Sequence[Any]) -> list[Picture]:
    """In threads: the library that decodes and scales lets others run meanwhile."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(make, items))
