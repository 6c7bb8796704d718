"""How far a result may be from the float64 oracle: a function of dtype and size.

u is the unit roundoff, half the distance from 1 to the next number. An error has four
sources:

1. The result is rounded once to its own dtype: u_out * |y|.
2. The sums over m values are made in the compute dtype. Rounding errors of a sum of m
   numbers of one sign add up as a random walk, u * m^1.5 / sqrt(3) in absolute terms,
   so the mean of the squares is off by the factor u * sqrt(m / 3), and rstd by half of
   that; sums whose terms cancel do better. The elementwise steps add a few u.
3. One read gives var = <(x - pilot)^2> - (pilot - mean)^2, which loses the factor
   1 + ((pilot - mean) / deviation)^2. A pilot that is a value of a small group is at
   most sqrt(m) deviations away, and the median of several values of a large one less
   than 2, for data without structure. For other data (`outliers=True`) it is at most
   sqrt(m / 4): a median of medians of nine has four of them on its far side, and
   Cauchy-Schwarz bounds those.
4. The reference alone rounds the mean: x_hat is off by u * |x| * rstd.

Terms 2 to 4 scale with |gamma * x_hat| + |beta|, an activation has a slope of at most
1.13 (gelu), and the bound is widened by the factor SAFETY.
"""

import math

import numpy as np

_UNIT = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
}
_ELEMENTWISE = 4  # roundings between x and y: centre, scale twice, shift
SAFETY = 3


def unit(dtype) -> float:
    """Unit roundoff of a dtype."""
    return _UNIT[np.dtype(dtype).name]


def compute_unit(dtype) -> float:
    """Unit roundoff of the dtype that input of ``dtype`` is computed in."""
    return min(unit(dtype), unit("float32"))


def relative(dtype, m: int, *, outliers: bool = False) -> float:
    """Sources 2 and 3 relative to the size of the terms, in the compute dtype."""
    cancelled = 1 + (max(min(m, 9), m / 4) if outliers else min(m, 4))
    return SAFETY * compute_unit(dtype) * (_ELEMENTWISE + cancelled * math.sqrt(m / 3))


def values(forward, x, gamma, beta, dtype, m, *, out=None, literal, outliers=False):
    """Bound on |y - oracle|, elementwise.

    Args:
      forward: `oracle.Forward` of the call.
      x: the input.
      gamma: broadcastable to x, or None.
      beta: broadcastable to x, or None.
      dtype: dtype of x.
      m: values in a group.
      out: dtype of the result, x's if None.
      literal: whether the implementation is the reference, which rounds the mean.
      outliers: whether the data may have outliers.
    """
    g = 1.0 if gamma is None else np.abs(np.asarray(gamma, np.float64))
    b = 0.0 if beta is None else np.abs(np.asarray(beta, np.float64))
    terms = g * (1 + np.abs(forward.x_hat)) + b
    bound = relative(dtype, m, outliers=outliers) * terms
    if literal:
        bound = bound + SAFETY * compute_unit(dtype) * mean_loss(forward, x, m) * g
    # A result below the smallest normal number loses digits, or is flushed to zero.
    out = np.dtype(dtype if out is None else out)
    tiny = 2.0**-14 if out == np.float16 else 2.0**-126
    return bound + unit(out) * np.abs(forward.y) + tiny


def mean_loss(forward, x, m):
    """|mean| / deviation times the growth of a sum: source 4, in units of u."""
    largest = np.max(np.abs(np.asarray(x, np.float64)), initial=0.0)
    return largest * forward.rstd * (1 + math.sqrt(m / 3))


def gradients(magnitude, dtype, m, *, out=None, conditioning=1.0, outliers=False):
    """Bound on the error of a gradient whose terms, before they cancel, are that big.

    Ten times the bound of the values: the backward pass uses their statistics twice
    and sums once more.
    """
    out = dtype if out is None else out
    terms = np.asarray(magnitude, np.float64)
    arithmetic = 10 * relative(dtype, m, outliers=outliers) * conditioning
    return (arithmetic + unit(out)) * terms + 2.0**-120


def assert_close(actual, expected, bound, what="value"):
    """Elementwise |actual - expected| <= bound, with the worst offender in the text."""
    actual = np.asarray(actual)
    assert actual.shape == np.shape(expected), (actual.shape, np.shape(expected))
    error = np.abs(actual.astype(np.float64) - expected)
    bound = np.broadcast_to(bound, error.shape)
    if error.size and not np.all(error <= bound):
        worst = np.unravel_index(np.argmax(error / bound), error.shape)
        raise AssertionError(
            f"{what} at {tuple(map(int, worst))}: got {actual[worst]}, expected "
            f"{expected[worst]}, off by {error[worst]:.3g}, bound {bound[worst]:.3g}"
        )
