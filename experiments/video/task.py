"""Which way things move, as a task for the trainer."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments.training import NORMS, Config, patches
from experiments.training.program import per_example
from experiments.video.paths import DIRECTIONS, Clips, Shape, drawn

Tree = Any


@dataclasses.dataclass(frozen=True, eq=False)
class Motion:
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

    def init(self, seed: int) -> tuple[Tree, Tree]:
        """Initial parameters and running averages."""
        variables = self._init(jax.random.key(seed, impl="rbg"))
        return variables["params"], variables.get("batch_stats", {})

    def loss(
        self, params: Tree, stats: Tree, batch: Clips
    ) -> tuple[jax.Array, tuple[Tree, dict[str, jax.Array]]]:
        """Mean cross-entropy; new running averages and the sums to report."""
        logits, state = self._model(training=True).apply(
            {"params": params, "batch_stats": stats},
            _scaled(batch.images),
            mutable=["batch_stats"],
        )
        sums = _sums(logits, batch.labels)
        return sums["loss"] / len(batch.labels), (state.get("batch_stats", {}), sums)

    def evaluate(self, params: Tree, stats: Tree, batch: Clips) -> dict[str, jax.Array]:
        """Sums over the clips of a batch that are not padding."""
        logits: Any = self._model(training=False).apply(
            {"params": params, "batch_stats": stats}, _scaled(batch.images)
        )
        return _sums(logits, batch.labels)

    def training_batch(self, config: Config, epoch: int, start: int, n: int) -> Clips:
        """Clips ``start`` to ``start + n`` of an epoch."""
        return drawn(self.things, self.shape, config.seed, epoch, start, n)

    def evaluation_batches(self, size: int) -> Iterator[Clips]:
        """The test clips in equal batches, padded at the end."""
        for start in range(0, len(self.test.labels), size):
            images, labels = (array[start : start + size] for array in self.test)
            missing = (0, size - len(labels))
            yield Clips(
                np.pad(images, [missing, (0, 0), (0, 0), (0, 0)]),
                np.pad(labels, missing, constant_values=-1),
            )

    def metrics(self, outputs: Iterable[dict[str, np.ndarray]]) -> dict[str, float]:
        """Loss and part of errors on the test clips."""
        return per_example(outputs, len(self.test.labels))

    @functools.cached_property
    def _init(self) -> Callable[[jax.Array], dict[str, Any]]:
        frames, side, _ = self.shape
        model = self._model(training=True)
        return jax.jit(
            lambda key: model.init(key, jnp.zeros((1, frames, side, side, 1)))
        )

    def _model(self, *, training: bool) -> nn.Module:
        on_cpu = jax.default_backend() == "cpu"
        return self.network(
            norm=NORMS[self.norm](training),
            conv=functools.partial(
                nn.Conv, conv_general_dilated=patches.conv if on_cpu else None
            ),
            classes=len(DIRECTIONS),
        )


def _sums(logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    there = labels >= 0
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits, jnp.where(there, labels, 0)
    )
    return {
        "loss": jnp.sum(jnp.where(there, losses, 0)),
        "errors": jnp.sum(there & (logits.argmax(-1) != labels)),
    }


def _scaled(images: jax.Array) -> jax.Array:
    """uint8 to about -2 to 2, with a channel."""
    return (images.astype(jnp.float32) - 127.5)[..., None] / 64
