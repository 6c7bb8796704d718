"""Segmentation of patches, as a task for the trainer."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments.data.brain import Volume
from experiments.segmentation import metric
from experiments.segmentation.patches import PADDING, Patches, cut, drawn
from experiments.training import Config, examples
from experiments.training.networked import Networked

Tree = Any


@dataclasses.dataclass(frozen=True, eq=False)
class Segmentation(Networked):
    """Trains a network to name the class of each voxel.

    Attributes:
      train: to cut training patches from.
      test: to cut the test patches from.
      corners: of the test patches, (n, 3).
      shape: of all patches; with one side of 1 the network is two-dimensional.
      classes: how many.
      network: makes the network, from ``norm``, ``conv`` and ``classes``.
      norm: a name of `NORMS`.
    """

    train: Volume
    test: Volume
    corners: np.ndarray
    shape: Sequence[int]
    classes: int
    network: Callable[..., nn.Module]
    norm: str

    def loss(
        self, params: Tree, stats: Tree, batch: Patches
    ) -> tuple[jax.Array, tuple[Tree, dict[str, jax.Array]]]:
        """Mean cross-entropy of the voxels."""
        logits, stats = self.trained(params, stats, _scaled(batch.images))
        loss = optax.softmax_cross_entropy_with_integer_labels(
            logits, batch.labels.astype(jnp.int32)
        ).mean()
        return loss, (stats, {"loss": loss * len(batch.images)})

    def evaluate(
        self, params: Tree, stats: Tree, batch: Patches
    ) -> dict[str, jax.Array]:
        """The summed loss, the confusion matrix, and the class said of each voxel."""
        logits = self.tested(params, stats, _scaled(batch.images))
        there = batch.labels != PADDING
        labels = jnp.where(there, batch.labels, 0).astype(jnp.int32)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        said = jnp.argmax(logits, axis=-1)
        pairs = jnp.where(there, labels * self.classes + said, -1)
        every = jnp.arange(self.classes**2)
        counts = jnp.sum(pairs.reshape(-1, 1) == every[None], axis=0)
        return {
            "loss": jnp.sum(jnp.where(there, losses, 0)),
            "confusion": counts.reshape(self.classes, self.classes),
            "said": said.astype(jnp.uint8),
        }

    def training_batch(self, config: Config, epoch: int, start: int, n: int) -> Patches:
        """Patches ``start`` to ``start + n`` of an epoch."""
        return drawn(
            self.train,
            self._voxels,
            self.shape,
            config.seed,
            epoch,
            start,
            n,
            augment=config.augment,
        )

    def evaluation_batches(self, size: int) -> Iterator[Patches]:
        """The test patches in equal batches, padded at the end."""
        test = cut(self.test, self.corners, self.shape)
        return examples.batches(test, size, Patches(0, PADDING))

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
        """The class said of each voxel of the test patches, uint8, (n, *sides)."""
        return np.concatenate([o["said"] for o in outputs])[: len(self.corners)]

    @functools.cached_property
    def _voxels(self) -> np.ndarray:
        """Where there is brain to train on."""
        return np.argwhere(self.train.image > 0)

    @property
    def example(self) -> jax.Array:
        """A patch, without its side of 1."""
        sides = [side for side in self.shape if side > 1]
        return jnp.zeros((1, *sides, 1))

    @property
    def settings(self) -> dict[str, Any]:
        """The number of classes."""
        return {"classes": self.classes}


def _scaled(images: jax.Array) -> jax.Array:
    """uint8 to about -2 to 2, with a channel."""
    return (images.astype(jnp.float32) - 127.5)[..., None] / 64
