"""Group norm for every platform, as plain JAX that XLA fuses well.

Forward reads x for its two sums and again to write y; backward reads x and dy for two
sums, and again to write dx. Reverse mode keeps x, gamma, beta, the mask and the
statistics, and rebuilds everything else from them.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flax_gn import _fusion, _sharding, _statistics
from flax_gn._linear import linear_call
from flax_gn._problem import Operands, Problem
from flax_gn._statistics import (
    Moments,
    fold,
    spatial_sum,
    spatial_sums,
    to_channels,
    where,
)


class Saved(NamedTuple):
    """All that reverse mode keeps."""

    x: jax.Array
    gamma: jax.Array | None
    beta: jax.Array | None
    mask: jax.Array | None
    moments: Moments


class Coefficients(NamedTuple):
    """Per channel, x_hat = (x - pilot) * rstd + offset and z = scale * x_hat + beta."""

    pilot: jax.Array
    rstd: jax.Array
    offset: jax.Array
    gamma: jax.Array | None
    beta: jax.Array | None


def group_norm(problem: Problem, operands: Operands) -> jax.Array:
    """See `flax_gn.group_norm`."""
    return _jitted(problem, operands.x, operands.gamma, operands.beta, operands.mask)


def group_stats(problem: Problem, operands: Operands) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance, shape (*kept, G)."""
    mean, var = _jitted_stats(problem, operands.x, operands.mask)
    return jnp.squeeze(mean, problem.reduced), jnp.squeeze(var, problem.reduced)


def _group_stats(problem, x, mask):
    moments = _statistics.moments(problem, x, mask)
    return moments.pilot + moments.shift, moments.var


def forward(problem, x, gamma, beta):
    """The result, without a mask, and its moments."""
    moments = _statistics.moments(problem, x, None)
    return _apply(problem, Saved(x, gamma, beta, None, moments)), moments


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _group_norm(problem, x, gamma, beta, mask):
    moments = _statistics.moments(problem, x, mask)
    return _apply(problem, Saved(x, gamma, beta, mask, moments))


@_group_norm.defjvp
def _group_norm_jvp(problem, primals, tangents):
    x, gamma, beta, mask = primals
    saved = Saved(x, gamma, beta, mask, _statistics.moments(problem, x, mask))
    dy = linear_call(
        partial(tangent, problem), partial(cotangent, problem), saved, tangents[:3]
    )
    return _apply(problem, saved), dy


_jitted = jax.jit(partial(_sharding.over_devices, _group_norm), static_argnums=0)
_jitted_stats = jax.jit(
    partial(_sharding.over_devices, _group_stats, per_group=True), static_argnums=0
)


def group_coefficients(problem, saved: Saved) -> tuple[jax.Array, jax.Array, jax.Array]:
    """pilot, rstd and offset of `Coefficients`, before they are repeated."""
    rstd = jax.lax.rsqrt(saved.moments.var + problem.eps)
    return saved.moments.pilot, rstd, -saved.moments.shift * rstd


def _per_channel(problem, saved: Saved, per_group) -> Coefficients:
    pilot, rstd, offset = (to_channels(v, saved.x.shape[-1]) for v in per_group)
    dtype = problem.compute_dtype
    return Coefficients(
        pilot=pilot,
        rstd=rstd,
        offset=offset,
        gamma=None if saved.gamma is None else saved.gamma.astype(dtype),
        beta=None if saved.beta is None else saved.beta.astype(dtype),
    )


def _x_hat(problem, x, mask, coefficients: Coefficients):
    """The normalised input; zero where masked.

    pilot and offset are subtracted one after the other: their sum, the mean, would
    round away the digits that the pilot saves.
    """
    centred = x.astype(problem.compute_dtype) - coefficients.pilot
    return where(mask, centred * coefficients.rstd + coefficients.offset)


def _affine(x_hat, coefficients: Coefficients):
    z = x_hat if coefficients.gamma is None else x_hat * coefficients.gamma
    return z if coefficients.beta is None else z + coefficients.beta


def _apply(problem, saved: Saved):
    """Y = activation(gamma * x_hat + beta)."""
    x, per_group = _fusion.next_pass(
        problem.reduced, saved.x, group_coefficients(problem, saved)
    )
    coefficients = _per_channel(problem, saved, per_group)
    _, (x, coefficients) = _statistics.separate_reads((x, coefficients), 2)
    y = _affine(_x_hat(problem, x, saved.mask, coefficients), coefficients)
    if problem.activation is not None:
        y = problem.activation(y)
    return y.astype(problem.out_dtype)


def tangent(problem, saved: Saved, tangents):
    """The directional derivative of `_apply`.

    With <.> the mean over a group,

    dz = gamma * rstd * (dx - <dx> - x_hat * <x_hat * dx>) + dgamma * x_hat + dbeta
    """
    dx, dgamma, dbeta = tangents
    coefficients = _per_channel(problem, saved, group_coefficients(problem, saved))
    x_hat = _x_hat(problem, saved.x, saved.mask, coefficients)
    dx = where(saved.mask, dx.astype(problem.compute_dtype))
    sums = tuple(_statistics.group_sum(problem, value) for value in (dx, x_hat * dx))
    mean_dx, mean_x_hat_dx = (
        to_channels(total / saved.moments.number, saved.x.shape[-1])
        for total in _statistics.sum_over_devices(problem, sums)
    )
    dz = where(saved.mask, coefficients.rstd * (dx - mean_dx - x_hat * mean_x_hat_dx))
    if coefficients.gamma is not None:
        dz = dz * coefficients.gamma + x_hat * dgamma.astype(dz.dtype)
    if coefficients.beta is not None:
        dz = dz + dbeta.astype(dz.dtype)
    if problem.activation is not None:
        z = _affine(x_hat, coefficients)
        _, dz = jax.jvp(problem.activation, (z,), (dz,))
    return dz.astype(problem.out_dtype)


def cotangent(problem, saved: Saved, dy):
    """The transpose of `tangent`, the backward pass.

    dx = rstd * (g - <g> - x_hat * <x_hat * g>) with g = gamma * dz, dbeta = sum(dz) and
    dgamma = sum(dz * x_hat). The sums of dz and dz * x_hat per channel serve all three.
    They are centred: sum(dz * x) would lose digits when the mean is large.
    """
    mask, dtype = saved.mask, problem.compute_dtype
    next_pass = partial(_fusion.next_pass, problem.reduced)
    (x, dy), per_group = next_pass((saved.x, dy), group_coefficients(problem, saved))
    coefficients = _per_channel(problem, saved, per_group)
    reads = _statistics.separate_reads((x, dy, coefficients), 4)
    first, second = (
        (dy.astype(dtype), _x_hat(problem, x, mask, coefficients))
        for x, dy, coefficients in reads[1:3]
    )
    if problem.activation is not None:
        # Once for both: the derivative costs more than a pass over memory.
        dz = _dz(problem, *first, reads[1][2])
        first, second = ((dz, x_hat) for _, x_hat in (first, second))
    sum_dz, sum_dz_x_hat = spatial_sums(problem, first[0], second[0] * second[1])
    sum_kept_dz = (
        sum_dz if mask is None else spatial_sum(problem, where(mask, first[0]))
    )

    slope = _slope(coefficients)
    sums = tuple(fold(problem, slope * total) for total in (sum_kept_dz, sum_dz_x_hat))
    means = tuple(
        total / saved.moments.number
        for total in _statistics.sum_over_devices(problem, sums)
    )
    x, dy = _fusion.read_again(*reads[3][:2])
    (x, dy), (per_group, means) = next_pass((x, dy), (per_group, means))
    coefficients = _per_channel(problem, saved, per_group)
    mean, mean_x_hat = (to_channels(v, x.shape[-1]) for v in means)
    _, (coefficients, slope, mean, mean_x_hat) = _statistics.separate_reads(
        (coefficients, _slope(coefficients), mean, mean_x_hat), 2
    )
    x_hat = _x_hat(problem, x, mask, coefficients)
    dz = dy.astype(dtype)
    if problem.activation is not None:
        # To form dz again costs less than to keep it in memory, but not on a CPU.
        dz = jax.lax.platform_dependent(
            *(first[0], dz, x_hat, coefficients),
            cpu=lambda dz, *_: dz,
            default=lambda _, *again: _dz(problem, *again),
        )
    dx = where(mask, slope * dz - mean - x_hat * mean_x_hat)
    return (
        dx.astype(saved.x.dtype),
        sum_to(saved.gamma, sum_dz_x_hat),
        sum_to(saved.beta, sum_dz),
    )


def _slope(coefficients: Coefficients):
    """How z grows with x."""
    if coefficients.gamma is None:
        return coefficients.rstd
    return coefficients.rstd * coefficients.gamma


def _dz(problem, dy, x_hat, coefficients: Coefficients):
    """The cotangent of z, the activation's argument."""
    return jax.vjp(problem.activation, _affine(x_hat, coefficients))[1](dy)[0]


def sum_to(parameter, value):
    """Sums over the kept axes that a parameter is shared along."""
    if parameter is None:
        return None
    axes = [
        axis
        for axis, (size, full) in enumerate(
            zip(parameter.shape, value.shape, strict=True)
        )
        if size != full
    ]
    return jnp.sum(value, axes, keepdims=True).astype(parameter.dtype)
