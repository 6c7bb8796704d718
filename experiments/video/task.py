"""What happens in clips, as a task for the trainer."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.training import Config
from experiments.training.classification import sums
from experiments.training.networked import Networked
from experiments.training.program import per_example
from experiments.video.sets import Clips, Source

Tree = Any


@dataclasses.dataclass(frozen=True, eq=False)
class Recognition(Networked):
    """Trains a network to name the class of a clip.

    Attributes:
      source: of the clips.
      network: makes the network, from ``norm``, ``conv`` and ``classes``.
      norm: a name of `NORMS`.
    """

    source: Source
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
        return self.source.drawn(config.seed, epoch, start, n)

    def evaluation_batches(self, size: int) -> Iterator[Clips]:
        """The test clips in equal batches, padded at the end."""
        return self.source.batches(size)

    def metrics(self, outputs: Iterable[dict[str, np.ndarray]]) -> dict[str, float]:
        """Loss and part of errors on the test clips."""
        return per_example(outputs, self.source.tested)

    @property
    def example(self) -> jax.Array:
        """A clip."""
        return jnp.zeros((1, *self.source.shape))

    @property
    def settings(self) -> dict[str, Any]:
        """The number of classes."""
        return {"classes": len(self.source.classes)}


def _scaled(images: jax.Array) -> jax.Array:
    """uint8 to about -2 to 2."""
    return (images.astype(jnp.float32) - 127.5) / 64
