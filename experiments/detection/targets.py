"""What each position of a level should say, given the boxes of a picture.

Tian, Shen, Chen & He, "FCOS: Fully Convolutional One-Stage Object Detection", ICCV
2019, section 3, with the centre sampling of its later version (arXiv 2006.09214): a
position answers for a box if its point lies in the box and near its middle, and if the
box has the size that the level is for; where it does for several, the smallest wins.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments.detection import boxes as box

# Of a level's positions, those up to so many strides from a box's middle answer for it.
RADIUS = 1.5
# A level of stride s is for boxes whose farthest edge is from 4 s/2 to 4 s pixels away;
# the finest is also for smaller boxes, the coarsest for larger ones. In FCOS it is 8 s.
REACH = 4.0


class Targets(NamedTuple):
    """Of all positions of all levels, one after another: P of them.

    Attributes:
      positive: bool, (P,): whether the position answers for a box.
      distances: float32, (P, 4), to the edges of its box; where it does not answer, of
        any box.
      classes: int32, (P,), of its box; likewise.
      centerness: float32, (P,), from 0 on the edge to 1 in the middle; 0 where it does
        not answer.
    """

    positive: jax.Array
    distances: jax.Array
    classes: jax.Array
    centerness: jax.Array


def points(
    strides: Sequence[int], height: int, width: int
) -> tuple[jax.Array, jax.Array]:
    """The points (P, 2), across and down, and the strides (P,) of all positions.

    >>> points([2], 2, 4)[0].tolist()
    [[1.0, 1.0], [3.0, 1.0]]
    """
    at, of = [], []
    for stride in strides:
        down, across = jnp.meshgrid(
            (jnp.arange(height // stride) + 0.5) * stride,
            (jnp.arange(width // stride) + 0.5) * stride,
            indexing="ij",
        )
        at.append(jnp.stack([across.ravel(), down.ravel()], axis=-1))
        of.append(jnp.full(down.size, float(stride)))
    return jnp.concatenate(at), jnp.concatenate(of)


def assign(
    boxes: jax.Array,
    classes: jax.Array,
    strides: Sequence[int],
    height: int,
    width: int,
    reach: float = REACH,
) -> Targets:
    """The targets of one picture.

    Args:
      boxes: (n, 4); those without area are padding.
      classes: (n,), of the boxes.
      strides: of the levels, from the finest to the coarsest.
      height: of the picture, in pixels.
      width: likewise.
      reach: so many strides a level's boxes reach at the most; by default `REACH`.
    """
    at, stride = points(strides, height, width)
    near = at[:, None] - boxes[None, :, :2]
    far = boxes[None, :, 2:] - at[:, None]
    distances = jnp.concatenate([near, far], axis=-1)  # (P, n, 4)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    off = jnp.abs(at[:, None] - middle[None]).max(-1)
    longest = distances.max(-1)
    least = jnp.where(stride == strides[0], 0.0, stride * reach / 2)[:, None]
    most = jnp.where(stride == strides[-1], jnp.inf, stride * reach)[:, None]
    sizes = box.area(boxes)[None]
    candidate = (
        (distances.min(-1) > 0)
        & (off <= RADIUS * stride[:, None])
        & (least < longest)
        & (longest <= most)
        & (sizes > 0)
    )
    sizes = jnp.where(candidate, sizes, jnp.inf)
    chosen = jnp.argmin(sizes, axis=1)
    positive = candidate.any(1)
    distances = jnp.take_along_axis(distances, chosen[:, None, None], axis=1)[:, 0]
    return Targets(
        positive,
        distances,
        classes[chosen],
        jnp.where(positive, _centerness(distances), 0.0),
    )


def _centerness(distances: jax.Array) -> jax.Array:
    """sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)), equation 3 of FCOS."""
    near, far = distances[..., :2], distances[..., 2:]
    ratios = jnp.minimum(near, far) / jnp.maximum(jnp.maximum(near, far), 1e-6)
    return jnp.sqrt(jnp.maximum(ratios.prod(-1), 0))
