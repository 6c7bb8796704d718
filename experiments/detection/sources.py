"""Where tiles come from: what is drawn to be trained on, and what is tested on."""

import dataclasses
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from experiments.data.boxed import Picture
from experiments.detection import tiles
from experiments.training import examples


class Source(Protocol):
    """What is trained on."""

    def drawn(
        self, seed: int, epoch: int, start: int, n: int, *, augment: bool
    ) -> tiles.Tiles:
        """Tiles ``start`` to ``start + n`` of an epoch.

        What is drawn depends on the seed, the epoch and the position in it alone.
        """
        ...


class Tested(Protocol):
    """What is tested on."""

    def __len__(self) -> int:
        """How many tiles."""
        ...

    def batches(self, size: int) -> Iterator[tiles.Tiles]:
        """The tiles in equal batches, padded at the end."""
        ...

    def truth(self) -> list[np.ndarray]:
        """Of each tile, as `metric.average_precision` takes it."""
        ...

    def image(self, index: int) -> np.ndarray:
        """One of them, uint8, (S, S, 3)."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Aerial:
    """Tiles cut out of one picture, which has no up and down."""

    picture: Picture
    shape: tiles.Shape

    def drawn(
        self, seed: int, epoch: int, start: int, n: int, *, augment: bool
    ) -> tiles.Tiles:
        """As `tiles.drawn`."""
        return tiles.drawn(
            self.picture, self.shape, seed, epoch, start, n, augment=augment
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Held:
    """Tiles in memory."""

    held: tiles.Tiles

    def __len__(self) -> int:
        return len(self.held.images)

    def batches(self, size: int) -> Iterator[tiles.Tiles]:
        """The tiles in equal batches, padded at the end."""
        return examples.batches(self.held, size, tiles.Tiles(0, 0, 0))

    def truth(self) -> list[np.ndarray]:
        """Rows of a box, its class, and that it is no crowd."""
        rows = np.concatenate(
            [self.held.boxes, np.zeros_like(self.held.boxes[..., :2])], axis=-1
        )
        rows[..., 4] = self.held.classes
        return [boxes[boxes[:, 2] > boxes[:, 0]] for boxes in rows]

    def image(self, index: int) -> np.ndarray:
        """One of them."""
        return self.held.images[index]
