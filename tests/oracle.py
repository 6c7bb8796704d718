"""Group norm and its derivatives in float64 numpy, independent of the library.

The statistics are taken group by group on an array whose kept axes come first, as the
paper writes them:

    mean = sum over S of x / m,   var = sum over S of (x - mean)^2 / m,
    z = gamma * (x - mean) / sqrt(var + eps) + beta,   y = activation(z).

With g = gamma * activation'(z) * dy, x_hat = (x - mean) * rstd and <.> the mean over S,

    dL/dx     = rstd * (g - <g> - x_hat * <g * x_hat>)
    dL/dgamma = sum of activation'(z) * dy * x_hat
    dL/dbeta  = sum of activation'(z) * dy.

A masked position has x_hat = 0: it is no member of S, receives activation(beta), and
gives gradient to beta alone.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Forward:
    """y, and what the derivatives and the tolerances are made from.

    ``x_hat``, ``z`` and ``rstd`` have x's shape; ``mean`` and ``var`` are (*kept, G).
    """

    y: np.ndarray
    x_hat: np.ndarray
    z: np.ndarray
    rstd: np.ndarray
    mean: np.ndarray
    var: np.ndarray


@dataclasses.dataclass(frozen=True)
class Gradients:
    """Cotangents of x, gamma and beta."""

    x: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray


def group_norm(
    x, gamma, beta, groups, *, eps=1e-5, mask=None, reduction_axes=None, activation=None
) -> Forward:
    """The forward pass of `flax_gn.group_norm` in float64."""
    x = np.asarray(x, np.float64)
    reduced = reduced_axes(x.ndim, reduction_axes)
    kept = _kept(x.shape, mask)
    values = _grouped(np.where(kept, x, 0.0), groups, reduced)
    weights = _grouped(kept.astype(np.float64), groups, reduced)
    count = np.maximum(weights.sum((1, 3), keepdims=True), 1)
    mean = (values * weights).sum((1, 3), keepdims=True) / count
    # The second pass takes out what rounding left in the first mean: of the centred
    # values, for a large mean has no room for it.
    centred = (values - mean) * weights
    left = centred.sum((1, 3), keepdims=True) / count
    mean, centred = mean + left, (centred - left) * weights
    var = (centred**2).sum((1, 3), keepdims=True) / count
    rstd = 1 / np.sqrt(var + eps)
    x_hat = _ungrouped(centred * rstd, x.shape, reduced)
    z = x_hat * _per_channel(gamma, 1.0, x.shape, reduced)
    z = z + _per_channel(beta, 0.0, x.shape, reduced)
    statistics = (
        *(n for axis, n in enumerate(x.shape[:-1]) if axis not in reduced),
        groups,
    )
    return Forward(
        y=_activate(activation, z)[0],
        x_hat=x_hat,
        z=z,
        rstd=_ungrouped(np.broadcast_to(rstd, values.shape), x.shape, reduced),
        mean=mean.reshape(statistics),
        var=var.reshape(statistics),
    )


def gradients(
    x,
    gamma,
    beta,
    groups,
    dy,
    *,
    eps=1e-5,
    mask=None,
    reduction_axes=None,
    activation=None,
) -> Gradients:
    """The vector-Jacobian product; gamma and beta of None count as 1 and 0."""
    x, dy = np.asarray(x, np.float64), np.asarray(dy, np.float64)
    reduced = reduced_axes(x.ndim, reduction_axes)
    forward = group_norm(
        x,
        gamma,
        beta,
        groups,
        eps=eps,
        mask=mask,
        reduction_axes=reduction_axes,
        activation=activation,
    )
    dz = _activate(activation, forward.z)[1] * dy
    g = dz * _per_channel(gamma, 1.0, x.shape, reduced)
    projected = project(x.shape, g, forward, groups, reduced, mask)
    sums = {"axis": tuple(reduced), "keepdims": False}
    per_sample = (dz * forward.x_hat).sum(**sums), dz.sum(**sums)
    d_gamma, d_beta = (
        total
        if np.ndim(given) == total.ndim and total.ndim > 1
        else total.reshape(-1, x.shape[-1]).sum(0)
        for total, given in zip(per_sample, (gamma, beta), strict=True)
    )
    return Gradients(forward.rstd * projected, d_gamma, d_beta)


def tangent(
    x,
    gamma,
    beta,
    groups,
    dx,
    d_gamma,
    d_beta,
    *,
    eps=1e-5,
    mask=None,
    reduction_axes=None,
    activation=None,
) -> np.ndarray:
    """The Jacobian-vector product."""
    x, dx = np.asarray(x, np.float64), np.asarray(dx, np.float64)
    reduced = reduced_axes(x.ndim, reduction_axes)
    forward = group_norm(
        x,
        gamma,
        beta,
        groups,
        eps=eps,
        mask=mask,
        reduction_axes=reduction_axes,
        activation=activation,
    )
    projected = project(x.shape, dx, forward, groups, reduced, mask)
    dz = _per_channel(gamma, 1.0, x.shape, reduced) * forward.rstd * projected
    dz = dz + _per_channel(d_gamma, 0.0, x.shape, reduced) * forward.x_hat
    dz = dz + _per_channel(d_beta, 0.0, x.shape, reduced)
    return _activate(activation, forward.z)[1] * dz


def project(shape, v, forward: Forward, groups, reduced, mask) -> np.ndarray:
    """v - <v> - x_hat * <v * x_hat> over the kept positions, 0 elsewhere."""
    weights = _grouped(_kept(shape, mask).astype(np.float64), groups, reduced)
    v, x_hat = (_grouped(a, groups, reduced) for a in (v, forward.x_hat))
    count = np.maximum(weights.sum((1, 3), keepdims=True), 1)
    mean_v = (v * weights).sum((1, 3), keepdims=True) / count
    mean_vx = (v * x_hat * weights).sum((1, 3), keepdims=True) / count
    return _ungrouped((v - mean_v - x_hat * mean_vx) * weights, shape, reduced)


def reduced_axes(ndim: int, reduction_axes: int | Sequence[int] | None) -> list[int]:
    """The axes that share statistics, less the channel axis."""
    if reduction_axes is None:
        return list(range(1, ndim - 1))
    axes = [reduction_axes] if isinstance(reduction_axes, int) else reduction_axes
    return sorted({axis % ndim for axis in axes} - {ndim - 1})


def group_values(shape, groups: int, reduction_axes=None) -> int:
    """m, the number of values that share statistics."""
    reduced = reduced_axes(len(shape), reduction_axes)
    return math.prod(shape[axis] for axis in reduced) * (shape[-1] // groups)


def _grouped(values, groups, reduced):
    """(K, S, G, C/G) with the kept axes in K and the reduced axes in S."""
    kept = [axis for axis in range(values.ndim - 1) if axis not in reduced]
    moved = values.transpose(*kept, *reduced, values.ndim - 1)
    k = math.prod(values.shape[axis] for axis in kept)
    s = math.prod(values.shape[axis] for axis in reduced)
    return moved.reshape(k, s, groups, values.shape[-1] // groups)


def _ungrouped(values, shape, reduced):
    kept = [axis for axis in range(len(shape) - 1) if axis not in reduced]
    order = [*kept, *reduced, len(shape) - 1]
    moved = values.reshape([shape[axis] for axis in order])
    return moved.transpose(np.argsort(order))


def _kept(shape, mask) -> np.ndarray:
    if mask is None:
        return np.ones(shape, bool)
    mask = np.asarray(mask)
    (meaning,) = meanings(mask.shape, shape)
    return np.broadcast_to(mask.reshape(meaning), shape)


def meanings(given, shape) -> set[tuple[int, ...]]:
    """What a mask's shape may be, with x's rank: no channels last, or no axes first."""
    rank = len(shape)
    readings = {(1,) * (rank - len(given)) + given}
    if len(given) == rank - 1:
        readings.add((*given, 1))
    return {
        reading
        for reading in readings
        if len(reading) == rank
        and all(n in (1, full) for n, full in zip(reading, shape, strict=True))
    }


def _per_channel(values, default, shape, reduced) -> np.ndarray:
    """gamma or beta as an array that broadcasts to x."""
    if values is None:
        return np.full((1,) * len(shape), default)
    values = np.asarray(values, np.float64)
    if values.ndim == 1:
        return values.reshape((1,) * (len(shape) - 1) + values.shape)
    return np.expand_dims(values, tuple(reduced))


def _activate(name: str | None, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The activation and its derivative at z."""
    if name is None:
        return z, np.ones_like(z)
    if name == "relu":
        return np.maximum(z, 0), (z > 0).astype(np.float64)
    if name == "silu":
        s = _sigmoid(z)
        return z * s, s * (1 + z * (1 - s))
    if name == "gelu":  # the tanh form
        a, b = math.sqrt(2 / math.pi), 0.044715
        t = np.tanh(a * (z + b * z**3))
        return 0.5 * z * (1 + t), 0.5 * (1 + t) + 0.5 * z * (1 - t**2) * a * (
            1 + 3 * b * z**2
        )
    if name == "mish":
        t, s = np.tanh(np.logaddexp(0, z)), _sigmoid(z)
        return z * t, t + z * (1 - t**2) * s
    raise ValueError(name)


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -z))
