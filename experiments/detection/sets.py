"""What the recipe has to know of a set of pictures."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from flax import linen as nn

from experiments.detection.sources import Source, Tested
from experiments.detection.tiles import Shape
from experiments.lab import Size

NORMS = ("frozen", "bn", "gn")  # that are compared


class Sites(NamedTuple):
    """What is trained on first, what next, and the tiles that are tested on.

    Attributes:
      first: at a large batch.
      second: at a small one.
      test: after both.
      classes: of objects.
      said: sentences on what was left out, for the caption.
    """

    first: Source
    second: Source
    test: Tested
    classes: int = 1
    said: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Words:
    """How table, caption and figure speak of a set.

    Attributes:
      tiles: what a batch holds; also names their number in the record.
      objects: what is to be found; also names their number in the record.
      test: what is tested on.
      tested: the same, with its article, for an axis.
      again: the same, where it was named before.
      first: what is trained on first.
      pixels: of a tile.
    """

    tiles: str
    objects: str
    test: str
    tested: str
    again: str
    first: str
    pixels: str


@dataclasses.dataclass(frozen=True)
class Set:
    """A set and how it is trained on.

    Attributes:
      sites: reads it from a folder, or from where it lies by default; the number is
        the most tiles to be tested on, None for all. Raises OSError or ValueError.
      network: makes the network, as `Detection` takes it.
      shape: of the tiles.
      reach: of the network's levels, as in `targets.assign`.
      candidates: boxes of a tile that suppression looks at.
      devices: that share a step on the second site.
      epoch: tiles in a pass.
      first_batch: tiles per step on the first site, on one device.
      evaluation_batch: tiles per step of the evaluation.
      rate_first: peak learning rate on the first site, for 256 tiles.
      rates: on the second one, likewise, of each norm.
      sizes: by name.
      words: for the report.
    """

    sites: Callable[[pathlib.Path | None, int | None], Sites]
    network: Callable[..., nn.Module]
    shape: Shape
    reach: float
    candidates: int
    devices: int
    epoch: int
    first_batch: int
    evaluation_batch: int
    rate_first: float
    rates: Mapping[str, float]
    sizes: Mapping[str, Size]
    words: Words

    def examples(self, size: Size) -> int:
        """Tiles in a pass at a size."""
        return min(self.epoch, size.examples or self.epoch)
