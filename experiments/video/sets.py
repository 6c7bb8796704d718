"""What the recipe has to know of a set of clips."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from flax import linen as nn

from experiments.lab import Size


class Clips(NamedTuple):
    """images uint8 (n, T, H, W, C); labels int32 (n,), or -1 where it is padding."""

    images: Any
    labels: Any


class Source(Protocol):
    """Where clips come from.

    Attributes:
      name: of the set, for the record.
      classes: the name of each label.
      shape: of a clip, (T, H, W, C).
      available: clips in a pass, at the most.
      tested: clips that are tested on.
    """

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int, int]
    available: int
    tested: int

    def drawn(self, seed: int, epoch: int, start: int, n: int) -> Clips:
        """Clips ``start`` to ``start + n`` of an epoch."""
        ...

    def batches(self, size: int) -> Iterator[Clips]:
        """The test clips in equal batches, padded at the end."""
        ...


@dataclasses.dataclass(frozen=True)
class Words:
    """How the caption speaks of a set.

    Attributes:
      tested: what is special about the clips that are tested on.
      trained: what is special about those of an epoch, behind a comma; or nothing.
    """

    tested: str
    trained: str = ""


@dataclasses.dataclass(frozen=True)
class Set:
    """A set and how it is trained on.

    Attributes:
      source: reads it from a folder, or from where it lies by default; the number is
        the most clips of an epoch and of the test, None for as many as the set is made
        for. Raises OSError, ValueError or ModuleNotFoundError.
      network: makes the network, as `Recognition` takes it.
      evaluation_batch: clips per step of the evaluation.
      rate: peak learning rate of Adam, for 256 clips.
      sizes: by name.
      words: for the report.
    """

    source: Callable[[pathlib.Path | None, int | None], Source]
    network: Callable[..., nn.Module]
    evaluation_batch: int
    rate: float
    sizes: Mapping[str, Size]
    words: Words
