"""Films of human actions, Kinetics and UCF101, at a size for one GPU.

As in the paper a clip has 32 pictures. They are every other one, of 112 pixels a side,
half of the paper's 224 and a quarter of its work. The network has ResNet-50's number of
blocks and starts from nothing, where the paper's starts from ImageNet. Of each film one
clip is tested on, from its middle, where the paper averages over ten.
"""

import concurrent.futures
import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from experiments.data import films, kinetics, ucf101
from experiments.data.films import Film, Films
from experiments.lab import Size
from experiments.training import examples
from experiments.video.sets import Clips, Set, Words
from flax_gn import models

FRAMES, STRIDE = 32, 2
SIDE, SHORT = 112, 128  # of a clip, and of the film it is cut from
EPOCH = 8192  # clips, or as many films as there are
TEST = 2048  # likewise, evenly from the list
EXAMPLES = 64  # of an epoch and of the test, for --quick


class Filmed:
    """Clips of films; a `Source`.

    Args:
      name: of the set, for the record.
      found: the films.
      most: clips of an epoch and of the test at the most.
      frames: of a clip.
      side: of a clip, in pixels.
      short: of a film's shorter side, in pixels; the clip is cut out of it.
    """

    def __init__(
        self,
        name: str,
        found: Films,
        most: int | None = None,
        frames: int = FRAMES,
        side: int = SIDE,
        short: int = SHORT,
    ):
        self.name, self.classes = name, found.classes
        self.shape: tuple[int, int, int, int] = frames, side, side, 3
        self._short = short
        self._train = found.train
        self.available = min(len(found.train), most or EPOCH)
        self.tested = min(len(found.test), most or TEST)
        # Lists go by class: each has its share in what is evenly taken.
        chosen = np.linspace(0, len(found.test) - 1, self.tested).round().astype(int)
        self._test = [found.test[index] for index in chosen]
        self._pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())

    def drawn(self, seed: int, epoch: int, start: int, n: int) -> Clips:
        """Clips ``start`` to ``start + n`` of an epoch: each from another film.

        When it starts, where it is cut out and whether it is mirrored is drawn at
        random, by the place in the epoch alone.
        """
        order = examples.order(seed, epoch, len(self._train), self.available)
        # A counter block of four numbers for each clip.
        bits = np.random.Philox(key=[seed, epoch]).advance(start)
        draws = bits.random_raw(4 * n).reshape(n, 4) / 2.0**64
        return self._clips(
            [self._train[index] for index in order[start : start + n]], draws
        )

    def batches(self, size: int) -> Iterator[Clips]:
        """One clip from the middle of each test film, padded at the end."""
        middle = np.array([0.5, 0.5, 0.5, 1.0])
        for start in range(0, len(self._test), size):
            part = self._test[start : start + size]
            clips = self._clips(part, np.tile(middle, (len(part), 1)))
            yield from examples.batches(clips, size, Clips(0, -1))

    def _clips(self, chosen: Sequence[Film], draws: np.ndarray) -> Clips:
        images = list(self._pool.map(self._clip, chosen, draws))
        labels = np.array([film.label for film in chosen], np.int32)
        return Clips(np.stack(images), labels)

    def _clip(self, film: Film, draw: np.ndarray) -> np.ndarray:
        """Draws: when, down, across, and below a half whether it is mirrored."""
        frames, side, _, _ = self.shape
        images = films.frames(film.path, frames, STRIDE, self._short, part=draw[0])
        top, left = (
            int(draw[1 + axis] * (images.shape[1 + axis] - side + 1)) for axis in (0, 1)
        )
        images = images[:, top : top + side, left : left + side]
        return images[:, :, ::-1] if draw[3] < 0.5 else images


def _read(
    load: Callable[..., Films], name: str, folder: pathlib.Path | None, most: int | None
) -> Filmed:
    """The `Set.source` of films."""
    return Filmed(name, load(folder), most)


def _set(load: Callable[..., Films], name: str, epochs: int) -> Set:
    return Set(
        source=functools.partial(_read, load, name),
        network=functools.partial(
            models.I3D,
            width=64,
            stages=(3, 4, 6, 3),
            stem=(5, 7),
            stem_stride=(2, 4),
        ),
        evaluation_batch=16,
        rate=0.032,  # 0.001 for 8, as is usual for Adam; nothing was searched
        sizes={
            "default": Size(epochs=epochs, batches=(8, 4), seeds=1),
            "quick": Size(epochs=1, batches=(4,), seeds=1, examples=EXAMPLES),
        },
        words=Words(tested="one from the middle of each of as many films"),
    )


# Kinetics' 240,000 films are seen three times; the paper's recipe takes a hundred.
KINETICS = _set(kinetics.load, kinetics.NAME, epochs=90)
UCF101 = _set(ucf101.load, ucf101.NAME, epochs=60)
