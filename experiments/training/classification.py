"""Classification of images, as a task for the trainer."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments.data import Dataset
from experiments.training import examples
from experiments.training.config import Config
from experiments.training.networked import Networked
from experiments.training.program import per_example

Tree = Any


class Batch(NamedTuple):
    """images uint8 (N, H, W, C); labels int32 (N,), or -1 where it is padding."""

    images: Any
    labels: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Classification(Networked):
    """Trains a network to name the class of an image.

    Attributes:
      dataset: the images.
      network: makes the network, from ``norm``, ``conv`` and ``classes``.
      norm: a name of `NORMS`.
      conv: makes its convolutions.
    """

    dataset: Dataset
    network: Callable[..., nn.Module]
    norm: str
    conv: Callable[..., nn.Module] = nn.Conv

    def loss(
        self, params: Tree, stats: Tree, batch: Batch
    ) -> tuple[jax.Array, tuple[Tree, dict[str, jax.Array]]]:
        """Mean cross-entropy; new running averages and the sums to report."""
        images = self.standardised(batch.images)
        logits, stats = self.trained(params, stats, images)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
        totals = {
            "loss": jnp.sum(losses),
            "errors": jnp.sum(logits.argmax(-1) != batch.labels),
        }
        return jnp.mean(losses), (stats, totals)

    def evaluate(self, params: Tree, stats: Tree, batch: Batch) -> dict[str, jax.Array]:
        """Sums over the examples of a batch that are not padding."""
        images = self.standardised(batch.images)
        return sums(self.tested(params, stats, images), batch.labels)

    def training_batch(self, config: Config, epoch: int, start: int, n: int) -> Batch:
        """Examples ``start`` to ``start + n`` of an epoch."""
        order = examples.order(
            config.seed,
            epoch,
            len(self.dataset.train_images),
            config.epoch_examples,
        )
        chosen = order[start : start + n]
        images = self.dataset.train_images[chosen]
        if config.augment:
            images = examples.augment(images, config.seed, epoch, start)
        return Batch(images, self.dataset.train_labels[chosen])

    def evaluation_batches(self, size: int) -> Iterator[Batch]:
        """The test set in equal batches, padded at the end."""
        test = Batch(self.dataset.test_images, self.dataset.test_labels)
        return examples.batches(test, size, Batch(0, -1))

    def metrics(self, outputs: Iterable[dict[str, np.ndarray]]) -> dict[str, float]:
        """Loss and part of errors on the test set."""
        return per_example(outputs, len(self.dataset.test_labels))

    @property
    def example(self) -> jax.Array:
        """An image of the training set's shape."""
        return jnp.zeros((1, *self.dataset.train_images.shape[1:]))

    @property
    def settings(self) -> dict[str, Any]:
        """The number of classes."""
        return {"classes": len(self.dataset.classes)}

    def standardised(self, images: jax.Array) -> jax.Array:
        """As the network takes them: mean 0 and standard deviation 1, by channel."""
        scaled = images.astype(jnp.float32) / 255
        mean, std = (
            value.reshape(1, 1, 1, -1)
            for value in (self.dataset.mean, self.dataset.std)
        )
        return (scaled - mean) / std


def sums(logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    """Cross-entropy and errors, summed over the examples that are not padding.

    >>> logits = jnp.array([[5.0, 0.0], [0.0, 5.0], [5.0, 0.0]])
    >>> int(sums(logits, jnp.array([1, 1, -1]))["errors"])
    1
    """
    there = labels >= 0
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits, jnp.where(there, labels, 0)
    )
    return {
        "loss": jnp.sum(jnp.where(there, losses, 0)),
        "errors": jnp.sum(there & (logits.argmax(-1) != labels)),
    }
