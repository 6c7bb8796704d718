"""Group norm and its gradients in float64, the truth that errors are measured from.

Written from the equations alone and sharing no code with the op: numpy, values of a
group in one row, and the mean taken off twice: the second time what rounding left.
"""

from typing import NamedTuple

import numpy as np


class Exact(NamedTuple):
    """The normalised values and, with a cotangent dy, the gradients."""

    y: np.ndarray
    dx: np.ndarray | None = None
    dgamma: np.ndarray | None = None


def group_norm(
    x: np.ndarray, groups: int, eps: float, dy: np.ndarray | None = None
) -> Exact:
    """Group norm with gamma 1 and beta 0.

    Args:
      x: shape (N, *spatial, C), any floating dtype; its rounding is not undone.
      groups: G, a divisor of C.
      eps: added to the variance.
      dy: cotangent of x's shape, or None.

    >>> group_norm(np.array([[1.0, 3.0]]), 1, eps=0.0).y
    array([[-1.,  1.]])
    """
    rows = _rows(x, groups)
    rows -= rows.mean(-1, keepdims=True)
    rows -= rows.mean(-1, keepdims=True)
    rstd = 1 / np.sqrt(np.square(rows).mean(-1, keepdims=True) + eps)
    rows *= rstd
    y = _back(rows, x.shape)
    if dy is None:
        return Exact(y)
    cotangent = _rows(dy, groups)
    along = (cotangent * rows).mean(-1, keepdims=True)
    dx = rstd * (cotangent - cotangent.mean(-1, keepdims=True) - along * rows)
    dgamma = (y * dy.astype(np.float64)).reshape(-1, x.shape[-1]).sum(0)
    return Exact(y, _back(dx, x.shape), dgamma)


def _rows(x: np.ndarray, groups: int) -> np.ndarray:
    """(N, G, values of a group), a copy."""
    split = x.astype(np.float64).reshape(len(x), -1, groups, x.shape[-1] // groups)
    return split.transpose(0, 2, 1, 3).reshape(len(x), groups, -1)


def _back(rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    samples, groups, _ = rows.shape
    split = rows.reshape(samples, groups, -1, shape[-1] // groups)
    return split.transpose(0, 2, 1, 3).reshape(shape)
