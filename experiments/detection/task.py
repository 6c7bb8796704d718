"""Detection in tiles, as a task for the trainer."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.detection import boxes as box
from experiments.detection import metric, targets, tiles
from experiments.detection.losses import Losses, losses
from experiments.detection.sources import Source, Tested
from experiments.training import Config
from experiments.training.networked import Networked

Tree = Any
MOST_FOUND = 100  # boxes in a tile, by score; COCO counts as many
OVERLAP = 0.5  # intersection over union above which the lower score goes


@dataclasses.dataclass(frozen=True, eq=False)
class Detection(Networked):
    """Trains a network to draw boxes around objects and to name their classes.

    Attributes:
      source: of training tiles.
      test: the tiles to be tested on.
      shape: of all tiles.
      network: makes the network, `flax_gn.models.FCOS`, from ``norm``, ``conv`` and
        ``classes``.
      norm: a name of `NORMS`; "frozen" is the paper's BN*.
      start: initial parameters and running averages by seed; by default drawn at
        random.
      classes: of objects.
      reach: of the levels, as in `targets.assign`.
      candidates: boxes of a tile, by score, that suppression looks at.
    """

    source: Source
    test: Tested
    shape: tiles.Shape
    network: Callable[..., nn.Module]
    norm: str
    start: Callable[[int], tuple[Tree, Tree]] | None = None
    classes: int = 1
    reach: float = targets.REACH
    candidates: int = MOST_FOUND

    @property
    def settings(self) -> dict[str, Any]:
        """What the network takes beside the norm and the convolution."""
        return {"classes": self.classes}

    def init(self, seed: int) -> tuple[Tree, Tree]:
        """Initial parameters and running averages."""
        if self.start is not None:
            return self.start(seed)
        return super().init(seed)

    def loss(
        self, params: Tree, stats: Tree, batch: tiles.Tiles
    ) -> tuple[jax.Array, tuple[Tree, dict[str, jax.Array]]]:
        """The detector's loss, of all tiles together, as FCOS does."""
        levels, stats = self.trained(params, stats, _scaled(batch.images))
        each = self._losses(levels, batch)
        loss = jax.tree.map(jnp.sum, each).total()
        return loss, (stats, {"loss": loss * len(batch.images)})

    def evaluate(
        self, params: Tree, stats: Tree, batch: tiles.Tiles
    ) -> dict[str, jax.Array]:
        """Of each tile its loss, and the boxes that were found; score 0 means none."""
        levels = self.tested(params, stats, _scaled(batch.images))
        found, scores, classes = jax.vmap(self._decoded)(*_flat(levels))
        each = self._losses(levels, batch)
        return {
            "loss": jax.vmap(Losses.total)(each),
            "boxes": found,
            "scores": scores,
            "classes": classes,
        }

    def training_batch(
        self, config: Config, epoch: int, start: int, n: int
    ) -> tiles.Tiles:
        """Tiles ``start`` to ``start + n`` of an epoch."""
        return self.source.drawn(config.seed, epoch, start, n, augment=config.augment)

    def evaluation_batches(self, size: int) -> Iterator[tiles.Tiles]:
        """The test tiles in equal batches, padded at the end."""
        return self.test.batches(size)

    def metrics(self, outputs: Iterable[dict[str, np.ndarray]]) -> dict[str, float]:
        """Mean loss, and average precision as COCO defines it."""
        outputs = list(outputs)
        loss = np.concatenate([output["loss"] for output in outputs])
        return {
            "loss": float(loss[: len(self.test)].mean()),
            **metric.average_precision(self.test.truth(), self.found(outputs)),
        }

    def found(self, outputs: Sequence[dict[str, np.ndarray]]) -> list[np.ndarray]:
        """What is found in each test tile, from the highest score.

        Returns:
          For each tile rows of a box, its score and its class, (m, 6).
        """
        rows = [
            np.concatenate(
                [
                    output["boxes"],
                    output["scores"][..., None],
                    output["classes"][..., None].astype(np.float32),
                ],
                axis=-1,
            )
            for output in outputs
        ]
        there = np.concatenate(rows)[: len(self.test)]  # the rest is padding
        return [row[row[:, 4] > 0] for row in there]

    @property
    def example(self) -> jax.Array:
        """A tile."""
        return jnp.zeros((1, self.shape.side, self.shape.side, 3))

    @property
    def _strides(self) -> tuple[int, ...]:
        model: Any = self.model(training=False)
        return model.strides

    def _losses(self, levels: Any, batch: tiles.Tiles) -> Losses:
        """Of each tile."""
        side = self.shape.side

        def one(logits, centerness, distances, boxes, classes):
            wanted = targets.assign(
                boxes, classes, self._strides, side, side, self.reach
            )
            return losses(logits, centerness, distances, wanted)

        return jax.vmap(one)(*_flat(levels), batch.boxes, batch.classes)

    def _decoded(
        self, logits: jax.Array, centerness: jax.Array, distances: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Boxes (K, 4), scores (K,) and classes (K,) of a tile.

        What is suppressed scores 0 and comes last.
        """
        side = self.shape.side
        at, _ = targets.points(self._strides, side, side)
        every = jnp.concatenate(
            [at - distances[:, :2], at + distances[:, 2:]], axis=-1
        ).clip(0, side)
        # The score of FCOS: the probability times the centerness, to the power 1/2.
        score = jnp.sqrt(
            jax.nn.sigmoid(logits) * jax.nn.sigmoid(centerness)[:, None]
        ).ravel()
        scores, chosen = jax.lax.top_k(score, min(self.candidates, len(score)))
        positions, classes = jnp.divmod(chosen, logits.shape[1])
        found = every[positions]
        kept = box.suppress(found, scores, classes, OVERLAP)
        scores, best = jax.lax.top_k(
            jnp.where(kept, scores, 0), min(MOST_FOUND, len(scores))
        )
        return found[best], scores, classes[best]


def _flat(levels: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Logits (N, P, C), centerness (N, P) and distances (N, P, 4) of all positions."""
    n = len(levels[0].centerness)
    return (
        jnp.concatenate(
            [level.classes.reshape(n, -1, level.classes.shape[-1]) for level in levels],
            axis=1,
        ),
        jnp.concatenate([level.centerness.reshape(n, -1) for level in levels], axis=1),
        jnp.concatenate(
            [level.distances.reshape(n, -1, 4) for level in levels], axis=1
        ),
    )


def _scaled(images: jax.Array) -> jax.Array:
    """uint8 to about -2 to 2."""
    return (images.astype(jnp.float32) - 127.5) / 64
