"""Which examples each host reads, in which order, and reading them ahead of time.

The batches of a run depend on its seed and on the size of the data alone, not on how
many hosts share them: every host takes the rows of the global batch that its devices
hold. So the place in the data is a number of steps, and a run may go on with another
number of hosts or of reading processes.
"""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import grain
import numpy as np
from grain.experimental import index_shuffle

from experiments.imagenet.config import Config
from experiments.imagenet.data import images
from experiments.imagenet.data.source import BadExampleError, Source

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Order:
    """The order of the examples: shuffled anew in every epoch, whole batches only.

    Attributes:
      examples: how many there are.
      batch: examples in a step, over all hosts.
      seed: of the order.

    Raises:
      ValueError: there are fewer examples than a batch takes.
    """

    examples: int
    batch: int
    seed: int

    def __post_init__(self):
        least = max(2, self.batch)  # one cannot be shuffled
        if self.examples < least:
            raise ValueError(
                f"expected at least {least} training examples, for a batch of "
                f"{self.batch}; got {self.examples}"
            )

    @property
    def epoch_steps(self) -> int:
        return self.examples // self.batch

    def epoch(self, step: int) -> int:
        return step // self.epoch_steps

    def example(self, step: int, row: int) -> int:
        """The number of the example in a row of a step's batch."""
        epoch, within = divmod(step, self.epoch_steps)
        return index_shuffle(
            within * self.batch + row,
            max_index=self.examples - 1,
            seed=(1_000_003 * self.seed + epoch) % 2**32,
            rounds=4,
        )


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows of the global batch that a host holds.

    Attributes:
      start: the first.
      count: how many.
    """

    start: int
    count: int


class _Place(NamedTuple):
    epoch: int
    example: int  # -1: there is none


@dataclasses.dataclass(frozen=True)
class TrainingPlaces(Sequence):
    """What a host reads, one after another, from the first step to the last."""

    order: Order
    rows: Rows
    first: int
    steps: int

    def __len__(self) -> int:
        return (self.steps - self.first) * self.rows.count

    def __getitem__(self, index: Any) -> _Place:
        if index >= len(self):
            raise IndexError(index)
        step, row = divmod(index, self.rows.count)
        step += self.first
        example = self.order.example(step, self.rows.start + row)
        return _Place(self.order.epoch(step), example)


@dataclasses.dataclass(frozen=True)
class EvaluationPlaces(Sequence):
    """Likewise for evaluation: every example once, in equal batches."""

    examples: int
    batch: int
    rows: Rows

    def __len__(self) -> int:
        return -(-self.examples // self.batch) * self.rows.count

    def __getitem__(self, index: Any) -> _Place:
        if index >= len(self):
            raise IndexError(index)
        step, row = divmod(index, self.rows.count)
        example = step * self.batch + self.rows.start + row
        return _Place(0, example if example < self.examples else -1)


@dataclasses.dataclass(frozen=True)
class _Load:
    """Reads an example and makes what the network sees; a label of -1 is padding."""

    source: Source
    config: Config
    training: bool

    def __call__(self, place: _Place) -> tuple[np.ndarray, np.int32]:
        size, augment = self.config.image_size, self.config.augment
        nothing = np.zeros((size, size, 3), np.uint8), np.int32(-1)
        if place.example < 0:
            return nothing
        try:
            example = self.source[place.example]
            if self.training:
                rng = np.random.default_rng((self.config.seed, *place))
                view = images.training_view(example, size, augment, rng)
            else:
                view = images.evaluation_view(example, size, augment)
        except BadExampleError as error:
            if not self.config.skip_bad:
                raise
            _log.warning("left out: %s", error)
            return nothing
        return view, np.int32(example.label)


def training(
    source: Source,
    config: Config,
    rows: Rows,
    first: int,
    *,
    threads: int,
    workers: int,
) -> grain.DatasetIterator:
    """This host's rows of every batch from step ``first`` to the end of the run.

    Returns:
      Of images uint8 (rows, size, size, 3) and labels int32 (rows,); to be closed.

    Raises:
      BadExampleError: from the iterator, where ``config.skip_bad`` is false.
    """
    order = Order(len(source), config.batch, config.seed)
    steps = config.epochs * order.epoch_steps
    places = TrainingPlaces(order, rows, first, steps)
    load = _Load(source, config, training=True)
    return _batches(places, load, rows.count, threads, workers)


def evaluation(
    source: Source, config: Config, rows: Rows, *, threads: int, workers: int
) -> grain.DatasetIterator:
    """This host's rows of every batch of an evaluation; as `training`."""
    places = EvaluationPlaces(len(source), config.batch, rows)
    load = _Load(source, config, training=False)
    return _batches(places, load, rows.count, threads, workers)


def _batches(places, load, count, threads, workers) -> grain.DatasetIterator:
    # Batches are formed before threads and processes share the work: each element that
    # they take is a whole batch, and the order is that of one thread.
    ahead = (
        grain.MapDataset.source(places)
        .map(load)
        .batch(count)
        .to_iter_dataset(
            grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(2, threads))
        )
    )
    if workers:
        from absl import flags  # grain's own, which its processes read

        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        ahead = ahead.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    return ahead.__iter__()
