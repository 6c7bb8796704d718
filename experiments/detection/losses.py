"""The three losses of the detector, for one picture."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.detection import boxes as box
from experiments.detection.targets import Targets

ALPHA, GAMMA = 0.25, 2.0  # those of the focal loss paper and of FCOS


class Losses(NamedTuple):
    """Sums over the positions of a picture, and what to divide them by.

    Attributes:
      classes: focal loss of all positions and classes.
      boxes: -log(IoU) of the positive ones, each weighted by its centerness.
      centerness: cross-entropy of the positive ones.
      positives: how many they are.
      weight: the sum of their centerness.
    """

    classes: jax.Array
    boxes: jax.Array
    centerness: jax.Array
    positives: jax.Array
    weight: jax.Array

    def total(self) -> jax.Array:
        """The loss to descend, of one picture or of sums over several."""
        positives = jnp.maximum(self.positives, 1)
        return (
            (self.classes + self.centerness) / positives
            # Without positives it is 0 / 1.
            + self.boxes / jnp.maximum(self.weight, 1e-6)
        )


def focal(logits: jax.Array, truth: jax.Array) -> jax.Array:
    """Focal loss of each logit: -a (1 - p)^2 log(p), p the probability of the truth.

    a is `ALPHA` where the truth is true and ``1 - ALPHA`` elsewhere.

    Source: Lin, Goyal, Girshick, He & Dollar, "Focal Loss for Dense Object Detection",
    ICCV 2017, equation 5.
    """
    return optax.sigmoid_focal_loss(
        logits, truth.astype(logits.dtype), alpha=ALPHA, gamma=GAMMA
    )


def losses(
    logits: jax.Array, centerness: jax.Array, distances: jax.Array, targets: Targets
) -> Losses:
    """Of one picture, from what the network says at its P positions.

    Args:
      logits: (P, C), of an object of each class.
      centerness: logits, (P,).
      distances: to the edges, (P, 4).
      targets: what it should say.
    """
    positive = targets.positive
    named = targets.classes[:, None] == jnp.arange(logits.shape[1])[None]
    # Both boxes hold their common point, so that they always share some area.
    wanted = jnp.where(positive[:, None], targets.distances, 1.0)
    overlap = box.iou(_around(distances), _around(wanted))
    off_centre = optax.sigmoid_binary_cross_entropy(centerness, targets.centerness)
    return Losses(
        classes=focal(logits, positive[:, None] & named).sum(),
        boxes=(-jnp.log(overlap) * targets.centerness).sum(),
        centerness=jnp.where(positive, off_centre, 0).sum(),
        positives=positive.sum().astype(jnp.float32),
        weight=targets.centerness.sum(),
    )


def _around(distances: jax.Array) -> jax.Array:
    """The boxes around the origin whose edges are so far away."""
    return jnp.concatenate([-distances[..., :2], distances[..., 2:]], axis=-1)
