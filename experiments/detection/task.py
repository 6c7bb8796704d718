"""Detection in tiles, as a task for the trainer."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.data.trees import Picture
from experiments.detection import boxes as box
from experiments.detection import metric, targets, tiles
from experiments.detection.losses import Losses, losses
from experiments.training import Config, examples
from experiments.training.networked import Networked

Tree = Any
MOST_FOUND = 100  # boxes in a tile, by score; COCO counts as many
OVERLAP = 0.5  # intersection over union above which the lower score goes


@dataclasses.dataclass(frozen=True, eq=False)
class Detection(Networked):
    """Trains a network to draw boxes around the objects of one class.

    Attributes:
      picture: to cut training tiles from.
      test: the tiles to be tested on.
      shape: of all tiles.
      network: makes the network, `flax_gn.models.FCOS`, from ``norm`` and ``conv``.
      norm: a name of `NORMS`; "frozen" is the paper's BN*.
      start: initial parameters and running averages by seed; by default drawn at
        random.
    """

    picture: Picture
    test: tiles.Tiles
    shape: tiles.Shape
    network: Callable[..., nn.Module]
    norm: str
    start: Callable[[int], tuple[Tree, Tree]] | None = None

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
        each = self._losses(levels, batch.boxes)
        loss = jax.tree.map(jnp.sum, each).total()
        return loss, (stats, {"loss": loss * len(batch.images)})

    def evaluate(
        self, params: Tree, stats: Tree, batch: tiles.Tiles
    ) -> dict[str, jax.Array]:
        """Of each tile its loss, and the boxes that were found; score 0 means none."""
        levels = self.tested(params, stats, _scaled(batch.images))
        found, scores = jax.vmap(self._decoded)(*_flat(levels))
        each = self._losses(levels, batch.boxes)
        return {"loss": jax.vmap(Losses.total)(each), "boxes": found, "scores": scores}

    def training_batch(
        self, config: Config, epoch: int, start: int, n: int
    ) -> tiles.Tiles:
        """Tiles ``start`` to ``start + n`` of an epoch."""
        return tiles.drawn(
            self.picture,
            self.shape,
            config.seed,
            epoch,
            start,
            n,
            augment=config.augment,
        )

    def evaluation_batches(self, size: int) -> Iterator[tiles.Tiles]:
        """The test tiles in equal batches, padded at the end."""
        return examples.batches(self.test, size, tiles.Tiles(0, 0))

    def metrics(self, outputs: Iterable[dict[str, np.ndarray]]) -> dict[str, float]:
        """Mean loss, and average precision as COCO defines it."""
        outputs = list(outputs)
        loss = np.concatenate([output["loss"] for output in outputs])
        return {
            "loss": float(loss[: len(self.test.images)].mean()),
            **metric.average_precision(self.truth(), self.found(outputs)),
        }

    def truth(self) -> list[np.ndarray]:
        """The boxes (n, 4) in each test tile."""
        return [boxes[boxes[:, 2] > boxes[:, 0]] for boxes in self.test.boxes]

    def found(self, outputs: Sequence[dict[str, np.ndarray]]) -> list[np.ndarray]:
        """Boxes and scores (m, 5) found in each test tile, from the highest score."""
        rows = [
            np.concatenate([output["boxes"], output["scores"][..., None]], axis=-1)
            for output in outputs
        ]
        there = np.concatenate(rows)[: len(self.test.images)]  # the rest is padding
        return [row[row[:, 4] > 0] for row in there]

    @property
    def example(self) -> jax.Array:
        """A tile."""
        return jnp.zeros((1, self.shape.side, self.shape.side, 3))

    @property
    def _strides(self) -> tuple[int, ...]:
        model: Any = self.model(training=False)
        return model.strides

    def _losses(self, levels: Any, boxes: jax.Array) -> Losses:
        """Of each tile."""
        side = self.shape.side

        def one(logits, centerness, distances, boxes):
            wanted = targets.assign(boxes, self._strides, side, side)
            return losses(logits, centerness, distances, wanted)

        return jax.vmap(one)(*_flat(levels), boxes)

    def _decoded(
        self, logits: jax.Array, centerness: jax.Array, distances: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Boxes (K, 4) and scores (K,) of a tile; what is suppressed scores 0."""
        side = self.shape.side
        at, _ = targets.points(self._strides, side, side)
        every = jnp.concatenate(
            [at - distances[:, :2], at + distances[:, 2:]], axis=-1
        ).clip(0, side)
        # The score of FCOS: the probability times the centerness, to the power 1/2.
        score = jnp.sqrt(jax.nn.sigmoid(logits) * jax.nn.sigmoid(centerness))
        scores, chosen = jax.lax.top_k(score, min(MOST_FOUND, len(score)))
        kept = box.suppress(every[chosen], scores, OVERLAP)
        return every[chosen], jnp.where(kept, scores, 0)


def _flat(levels: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Logits (N, P), centerness (N, P) and distances (N, P, 4) of all positions."""
    n = len(levels[0].centerness)
    return (
        jnp.concatenate([level.classes.reshape(n, -1) for level in levels], axis=1),
        jnp.concatenate([level.centerness.reshape(n, -1) for level in levels], axis=1),
        jnp.concatenate(
            [level.distances.reshape(n, -1, 4) for level in levels], axis=1
        ),
    )


def _scaled(images: jax.Array) -> jax.Array:
    """uint8 to about -2 to 2."""
    return (images.astype(jnp.float32) - 127.5) / 64
