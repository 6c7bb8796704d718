"""Which way things move, as a task for the trainer."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.training import Config, examples
from experiments.training.classification import sums
from experiments.training.networked import Networked
from experiments.training.program import per_example
from experiments.video.paths import DIRECTIONS, Clips, Shape, drawn

Tree = Any


@dataclasses.dataclass(frozen=True, eq=False)
class Motion(Networked):
    """Trains a network to name the direction in which the thing of a clip moves.

    Attributes:
      things: to make training clips of; uint8, (m, h, w).
      test: the clips to be tested on.
      shape: of all clips.
      network: makes the network, from ``norm``, ``conv`` and ``classes``.
      norm: a name of `NORMS`.
    """

    things: np.ndarray
    test: Clips
    shape: Shape
    network: Callable[..., nn.Module]
    norm: str

    def loss(
        self, params: Tree, stats: Tree, batch: Clips
    ) -> tuple[jax.Array, tuple[Tree, dict[str, jax.Array]]]:
        """Mean cross-entropy; new running averages and the sums to report."""
        logits, stats = self.trained(params, stats, _scaled(batch.images))
        found = sums(logits, batch.labels)
        return found["loss"] / len(batch.labels), (stats, found)

    def evaluate(self, params: Tree, stats: Tree, batch: Clips) -> dict[str, jax.Array]:
        """Sums over the clips of a batch that are not padding."""
        logits = self.tested(params, stats, _scaled(batch.images))
        return sums(logits, batch.labels)

    def training_batch(self, config: Config, epoch: int, start: int, n: int) -> Clips:
        """Clips ``start`` to ``start + n`` of an epoch."""
        return drawn(self.things, self.shape, config.seed, epoch, start, n)

    def evaluation_batches(self, size: int) -> Iterator[Clips]:
        """The test clips in equal batches, padded at the end."""
        return examples.batches(self.test, size, Clips(0, -1))

    def metrics(self, outputs: Iterable[dict[str, np.ndarray]]) -> dict[str, float]:
        """Loss and part of errors on the test clips."""
        return per_example(outputs, len(self.test.labels))

    @property
    def example(self) -> jax.Array:
        """A clip."""
        frames, side, _ = self.shape
        return jnp.zeros((1, frames, side, side, 1))

    @property
    def settings(self) -> dict[str, Any]:
        """The number of directions."""
        return {"classes": len(DIRECTIONS)}


def _scaled(images: jax.Array) -> jax.Array:
    """uint8 to about -2 to 2, with a channel."""
    return (images.astype(jnp.float32) - 127.5)[..., None] / 64
