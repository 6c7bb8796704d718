"""Segmentation of patches, as a task for the trainer."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments.segmentation import metric
from experiments.segmentation.patches import PADDING, Patches
from experiments.segmentation.sets import Cases, Geometry
from experiments.training import Config
from experiments.training.networked import Networked

Tree = Any


@dataclasses.dataclass(frozen=True, eq=False)
class Segmentation(Networked):
    """Trains a network to name the class of each voxel.

    Attributes:
      cases: to cut patches from.
      geometry: of all patches.
      network: makes the network, from ``norm``, ``conv`` and ``classes``.
      norm: a name of `NORMS`.
    """

    cases: Cases
    geometry: Geometry
    network: Callable[..., nn.Module]
    norm: str

    @property
    def classes(self) -> int:
        """How many."""
        return len(self.cases.classes)

    def loss(
        self, params: Tree, stats: Tree, batch: Patches
    ) -> tuple[jax.Array, tuple[Tree, dict[str, jax.Array]]]:
        """Mean cross-entropy of the voxels that are no padding."""
        logits, stats = self.trained(params, stats, _scaled(batch.images))
        losses, there = _losses(logits, batch.labels)
        loss = jnp.sum(losses) / jnp.maximum(jnp.sum(there), 1)
        return loss, (stats, {"loss": loss * len(batch.images)})

    def evaluate(
        self, params: Tree, stats: Tree, batch: Patches
    ) -> dict[str, jax.Array]:
        """The summed loss, the confusion matrix, and the class said of each voxel."""
        logits = self.tested(params, stats, _scaled(batch.images))
        losses, there = _losses(logits, batch.labels)
        said = jnp.argmax(logits, axis=-1)
        labels = batch.labels.astype(jnp.int32)
        pairs = jnp.where(there, labels * self.classes + said, -1)
        every = jnp.arange(self.classes**2)
        counts = jnp.sum(pairs.reshape(-1, 1) == every[None], axis=0)
        return {
            "loss": jnp.sum(losses),
            "confusion": counts.reshape(self.classes, self.classes),
            "said": said.astype(jnp.uint8),
        }

    def training_batch(self, config: Config, epoch: int, start: int, n: int) -> Patches:
        """Patches ``start`` to ``start + n`` of an epoch."""
        return self.cases.drawn(
            self.geometry, config.seed, epoch, start, n, augment=config.augment
        )

    def evaluation_batches(self, size: int) -> Iterator[Patches]:
        """The test patches in equal batches, padded at the end of each volume."""
        return self.cases.batches(self.geometry, size)

    def metrics(self, outputs: Iterable[dict[str, np.ndarray]]) -> dict[str, float]:
        """Loss per voxel, mean IoU of all classes, mean Dice of all but the first."""
        loss = 0.0
        confusion = np.zeros((self.classes, self.classes), np.int64)
        for output in outputs:
            loss += float(output["loss"])
            confusion += output["confusion"]
        iou, dice = metric.overlap(confusion)
        return {
            "loss": loss / int(confusion.sum()),
            "miou": float(iou.mean()),
            "dice": float(dice[1:].mean()),
        }

    def said(self, outputs: Iterable[dict[str, np.ndarray]]) -> np.ndarray:
        """The class said of each voxel of the slice that is shown, uint8."""
        return self.cases.said(self.geometry, (output["said"] for output in outputs))

    @property
    def example(self) -> jax.Array:
        """A patch, without its side of 1."""
        sides = [side for side in self.geometry.shape if side > 1]
        return jnp.zeros((1, *sides, self.cases.channels))

    @property
    def settings(self) -> dict[str, Any]:
        """The number of classes."""
        return {"classes": self.classes}


def _losses(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of each voxel, 0 where it is padding; and where it is none."""
    there = labels != PADDING
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits, jnp.where(there, labels, 0).astype(jnp.int32)
    )
    return jnp.where(there, losses, 0), there


def _scaled(images: jax.Array) -> jax.Array:
    """uint8 to about -2 to 2."""
    return (images.astype(jnp.float32) - 127.5) / 64
