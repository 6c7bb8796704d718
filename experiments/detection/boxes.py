"""Boxes: how much two of them share, and which of many stand for the same object.

A box is four numbers, left, top, right and bottom in pixels.
"""

import jax
import jax.numpy as jnp


def area(boxes: jax.Array) -> jax.Array:
    """Square pixels of boxes (..., 4); 0 where right is left of left, or top below."""
    sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Intersection over union of boxes (..., 4) and (..., 4); 0 for two without area.

    >>> one, other = jnp.array([0.0, 0, 2, 2]), jnp.array([1.0, 0, 3, 2])
    >>> round(float(iou(one, other)), 4)
    0.3333
    """
    shared = area(
        jnp.concatenate(
            [
                jnp.maximum(a[..., :2], b[..., :2]),
                jnp.minimum(a[..., 2:], b[..., 2:]),
            ],
            axis=-1,
        )
    )
    union = area(a) + area(b) - shared
    return shared / jnp.where(union > 0, union, 1)


def suppress(
    boxes: jax.Array, scores: jax.Array, classes: jax.Array, most: float
) -> jax.Array:
    """Greedy non-maximum suppression: which boxes remain.

    From the highest score to the lowest, a box remains if it shares at most ``most``,
    as intersection over union, with every box of its class that remained before it.

    Args:
      boxes: (n, 4).
      scores: (n,), from the highest to the lowest.
      classes: (n,), integers.
      most: from 0 to 1.

    Returns:
      bool, (n,).
    """
    n = len(scores)
    overlaps = iou(boxes[:, None], boxes[None, :]) > most
    overlaps &= classes[:, None] == classes[None, :]
    overlaps &= jnp.arange(n)[:, None] > jnp.arange(n)[None, :]  # with an earlier one

    def look(index: jax.Array, kept: jax.Array) -> jax.Array:
        return kept.at[index].set(~jnp.any(overlaps[index] & kept))

    return jax.lax.fori_loop(0, n, look, jnp.ones(n, bool))
