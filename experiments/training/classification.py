"""Classification of images, as a task for the trainer."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments.data import Dataset
from experiments.training import examples, patches
from experiments.training.config import Config
from experiments.training.norms import NORMS
from experiments.training.program import per_example

Tree = Any


class Batch(NamedTuple):
    """images uint8 (N, H, W, C); labels int32 (N,), or -1 where it is padding."""

    images: Any
    labels: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Classification:
    """Trains a network to name the class of an image.

    Attributes:
      dataset: the images.
      network: makes the network, from ``norm``, ``conv`` and ``classes``.
      norm: a name of `NORMS`.
      conv: makes the network's convolutions, as `flax.linen.Conv` does.
    """

    dataset: Dataset
    network: Callable[..., nn.Module]
    norm: str
    conv: Callable[..., nn.Module] = nn.Conv

    def init(self, seed: int) -> tuple[Tree, Tree]:
        """Initial parameters and running averages."""
        # The default generator takes ten times longer to compile than this one.
        key = jax.random.key(seed, impl="rbg")
        variables = self._init(key)
        return variables["params"], variables.get("batch_stats", {})

    def loss(
        self, params: Tree, stats: Tree, batch: Batch
    ) -> tuple[jax.Array, tuple[Tree, dict[str, jax.Array]]]:
        """Mean cross-entropy; new running averages and the sums to report."""
        logits, state = self._model(training=True).apply(
            {"params": params, "batch_stats": stats},
            self._standardised(batch.images),
            mutable=["batch_stats"],
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
        sums = {
            "loss": jnp.sum(losses),
            "errors": jnp.sum(logits.argmax(-1) != batch.labels),
        }
        return jnp.mean(losses), (state.get("batch_stats", {}), sums)

    def evaluate(self, params: Tree, stats: Tree, batch: Batch) -> dict[str, jax.Array]:
        """Sums over the examples of a batch that are not padding."""
        logits: Any = self._model(training=False).apply(
            {"params": params, "batch_stats": stats}, self._standardised(batch.images)
        )
        there = batch.labels >= 0
        losses = optax.softmax_cross_entropy_with_integer_labels(
            logits, jnp.where(there, batch.labels, 0)
        )
        return {
            "loss": jnp.sum(jnp.where(there, losses, 0)),
            "errors": jnp.sum(there & (logits.argmax(-1) != batch.labels)),
        }

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
        images, labels = self.dataset.test_images, self.dataset.test_labels
        for start in range(0, len(images), size):
            part = Batch(images[start : start + size], labels[start : start + size])
            missing = size - len(part.labels)
            yield Batch(
                np.pad(part.images, ((0, missing), (0, 0), (0, 0), (0, 0))),
                np.pad(part.labels, (0, missing), constant_values=-1),
            )

    def metrics(self, outputs: Iterable[dict[str, np.ndarray]]) -> dict[str, float]:
        """Loss and part of errors on the test set."""
        return per_example(outputs, len(self.dataset.test_labels))

    @functools.cached_property
    def _init(self) -> Callable[[jax.Array], dict[str, Any]]:
        """Compiled once for all seeds."""
        images = jnp.zeros((1, *self.dataset.train_images.shape[1:]))
        model = self._model(training=True)
        return jax.jit(lambda key: model.init(key, images))

    def _model(self, *, training: bool) -> nn.Module:
        on_cpu = jax.default_backend() == "cpu"
        return self.network(
            norm=NORMS[self.norm](training),
            conv=functools.partial(
                self.conv, conv_general_dilated=patches.conv if on_cpu else None
            ),
            classes=len(self.dataset.classes),
        )

    def _standardised(self, images: jax.Array) -> jax.Array:
        scaled = images.astype(jnp.float32) / 255
        mean, std = (
            value.reshape(1, 1, 1, -1)
            for value in (self.dataset.mean, self.dataset.std)
        )
        return (scaled - mean) / std
