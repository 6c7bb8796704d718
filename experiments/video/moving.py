"""The set that the committed record is of: clothes that move in eight directions.

Clips are made: a thing of Fashion-MNIST, at a quarter of its resolution, moves straight
on over another one that stands still. No single frame says which of the two moves, or
where to. The things that are tested on are of the set's own test part.
"""

import functools
import pathlib
from collections.abc import Iterator

import numpy as np

from experiments import data
from experiments.lab import Size
from experiments.training import examples
from experiments.video import paths
from experiments.video.paths import DIRECTIONS, Shape
from experiments.video.sets import Clips, Set, Words
from flax_gn import models

NAME = "moving"
SHAPE = Shape(frames=6, side=20, fastest=2)
HALVINGS = 2  # of the things, to 7x7
CLIPS = 256  # of an epoch, and of the test
TEST_SEED = 2**31  # of no run


class Moving:
    """Clips of things on known paths; a `Source`.

    Args:
      name: of the set, for the record.
      things: to make training clips of; uint8, (m, h, w).
      others: to make the test clips of, likewise.
      shape: of the clips.
      clips: of an epoch, and of the test.
    """

    classes = tuple(DIRECTIONS)

    def __init__(
        self,
        name: str,
        things: np.ndarray,
        others: np.ndarray,
        shape: Shape = SHAPE,
        clips: int = CLIPS,
    ):
        self.name, self._things, self._moves = name, things, shape
        sides = shape.side, shape.side
        self.shape: tuple[int, int, int, int] = (shape.frames, *sides, 1)
        self.available = self.tested = clips
        self._test = _in_grey(paths.drawn(others, shape, TEST_SEED, 0, 0, clips))

    def drawn(self, seed: int, epoch: int, start: int, n: int) -> Clips:
        """Clips ``start`` to ``start + n`` of an epoch."""
        made = paths.drawn(self._things, self._moves, seed, epoch, start, n)
        return _in_grey(made)

    def batches(self, size: int) -> Iterator[Clips]:
        """The test clips in equal batches, padded at the end."""
        return examples.batches(self._test, size, Clips(0, -1))


def read(
    folder: pathlib.Path | None,
    most: int | None,
    *,
    shape: Shape = SHAPE,
    clips: int = CLIPS,
) -> Moving:
    """The `Set.source` of the things that ship with the package."""
    del folder
    dataset = data.load(data.NAMES[0])
    things, others = (
        paths.shrunk(images, HALVINGS)
        for images in (dataset.train_images, dataset.test_images)
    )
    return Moving(
        f"{NAME} {dataset.name}", things, others, shape, min(clips, most or clips)
    )


def _in_grey(made: paths.Clips) -> Clips:
    return Clips(made.images[..., None], made.labels)


MOVING = Set(
    source=read,
    network=functools.partial(models.I3D, width=8, stages=(1, 1), stem=(3, 5)),
    evaluation_batch=64,
    rate=0.128,  # 0.004 for 8
    sizes={
        "default": Size(epochs=90, batches=(8, 4), seeds=3),
        "quick": Size(epochs=1, batches=(4,), seeds=1),
    },
    words=Words(tested="with things of the test part", trained=", all of them new"),
)
