"""Group norm for every platform, as plain JAX that XLA fuses well.

Forward reads x for its two sums and again to write y; backward reads x and dy for two
sums, and again to write dx. Reverse mode keeps x, gamma, beta, the mask and the
statistics, and rebuilds everything else from them.
"""

import dataclasses
import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flax_gn import _activations, _fold, _fusion, _rows, _sharding, _statistics, _sums
from flax_gn._linear import differentiated_as, linear_call
from flax_gn._problem import Operands, Problem
from flax_gn._statistics import Moments, to_channels, where, widened


class Saved(NamedTuple):
    """All that reverse mode keeps."""

    x: jax.Array
    gamma: jax.Array | None
    beta: jax.Array | None
    mask: jax.Array | None
    moments: Moments


class Coefficients(NamedTuple):
    """Per channel, x_hat = (x - pilot) * rstd + offset and z = gamma * x_hat + beta."""

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


def _for_z(problem, x, mask, coefficients: Coefficients) -> Coefficients:
    """What serves `_z` and `_slope` alone; on a CPU it takes fewer operations.

    There gamma and beta go into rstd and offset, and are the constants 1 and 0, which
    XLA drops: passes are bound by arithmetic. Accelerators have the time, and would
    form the products in kernels of their own. Where x is masked, z is beta.
    """
    if mask is not None:
        return _stored(problem, x, coefficients)

    def folded(coefficients):
        pilot, rstd, offset, gamma, beta = coefficients
        if gamma is not None:
            rstd, offset = rstd * gamma, offset * gamma
            gamma = jnp.ones_like(gamma)
        if beta is not None:
            offset, beta = offset + beta, jnp.zeros_like(beta)
        pilot, rstd, offset = _stored(problem, x, (pilot, rstd, offset))
        return Coefficients(pilot, rstd, offset, gamma, beta)

    return _fusion.by_platform(coefficients, cpu=folded, default=lambda same: same)


def _stored(problem, x, coefficients):
    """`_fusion.stored`, for a pass that forms z."""
    heavy = _activations.is_heavy(problem.activation, x.ndim)
    return _fusion.stored(problem.reduced, x, coefficients, always=heavy)


def _x_hat(problem, x, mask, coefficients: Coefficients):
    """The normalised input; zero where masked.

    pilot and offset are subtracted one after the other: their sum, the mean, would
    round away the digits that the pilot saves.
    """
    centred = widened(problem, x, mask) - coefficients.pilot
    return where(mask, centred * coefficients.rstd + coefficients.offset)


def _affine(x_hat, coefficients: Coefficients):
    z = x_hat if coefficients.gamma is None else x_hat * coefficients.gamma
    return z if coefficients.beta is None else z + coefficients.beta


def _z(problem, x, mask, coefficients: Coefficients):
    """The activation's argument."""
    return _affine(_x_hat(problem, x, mask, coefficients), coefficients)


def _dz(problem, x, dy, mask, coefficients: Coefficients):
    """The cotangent of z."""
    dy = dy.astype(problem.compute_dtype)
    if problem.activation is None:
        return dy
    return jax.vjp(problem.activation, _z(problem, x, mask, coefficients))[1](dy)[0]


def _apply(problem, saved: Saved):
    """Y = activation(gamma * x_hat + beta)."""
    x, per_group = _fusion.next_pass(
        problem.reduced, saved.x, group_coefficients(problem, saved)
    )
    coefficients = _per_channel(problem, saved, per_group)
    coefficients = _for_z(problem, x, saved.mask, coefficients)
    y = _z(problem, x, saved.mask, coefficients)
    if problem.activation is not None:
        y = problem.activation(y)
    return y.astype(problem.out_dtype)


def tangent(problem, saved: Saved, tangents):
    """The directional derivative of `_apply`.

    With <.> the mean over a group,

    dz = gamma * rstd * (dx - <dx> - x_hat * <x_hat * dx>) + dgamma * x_hat + dbeta
    """
    dx, dgamma, dbeta = tangents
    per_group = group_coefficients(problem, saved)
    coefficients = _per_channel(problem, saved, per_group)
    coefficients = _stored(problem, saved.x, coefficients)

    def of_element(x, dx, coefficients, mask):
        x_hat = _x_hat(problem, x, mask, coefficients)
        return widened(problem, dx, mask), x_hat

    def products(*arrays):
        dx, x_hat = of_element(*arrays)
        return dx, x_hat * dx

    arrays = saved.x, dx, coefficients, saved.mask
    sums = _statistics.group_sums(problem, products, *arrays)
    mean_dx, mean_x_hat_dx = (
        to_channels(total / saved.moments.number, saved.x.shape[-1])
        for total in _statistics.sum_over_devices(problem, sums)
    )
    dx, x_hat = of_element(*arrays)
    dz = coefficients.rstd * (dx - mean_dx - x_hat * mean_x_hat_dx)
    dz = where(saved.mask, dz)
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

    With g = gamma * dz,

    dx = rstd * (g - <g> - x_hat * <x_hat * g>)
    dbeta = sum(dz) and dgamma = sum(dz * x_hat)

    The sums of dz and dz * x_hat per channel serve all three. They are centred:
    sum(dz * x) would lose digits when the mean is large.
    """
    if _few_for_a_gpu(problem, saved):
        return _cotangent_of_few(problem, saved, dy)
    return _cotangent(problem, saved, dy)


def _cotangent(problem, saved, dy):
    mask = saved.mask
    next_pass = partial(_fusion.next_pass, problem.reduced)
    stored = partial(_fusion.stored, problem.reduced, saved.x)
    (x, dy), per_group = next_pass((saved.x, dy), group_coefficients(problem, saved))
    coefficients = _per_channel(problem, saved, per_group)
    for_z = _for_z(problem, x, mask, coefficients)
    stored_dz, (sum_dz, sum_kept_dz, sum_dz_x_hat) = _stored_dz_and_sums(
        problem, x, dy, mask, stored(coefficients), for_z
    )
    slope = _slope(coefficients)
    totals = _fold.fold(
        problem.groups, slope * sum_kept_dz, slope * sum_dz_x_hat, backward=True
    )
    means = tuple(
        total / saved.moments.number
        for total in _statistics.sum_over_devices(problem, totals)
    )
    x, dy = _fusion.read_again(x, dy)
    (x, dy), (per_group, means) = next_pass((x, dy), (per_group, means))
    coefficients = _per_channel(problem, saved, per_group)
    for_z = _for_z(problem, x, mask, coefficients)
    if stored_dz is None:
        dz = _dz(problem, x, dy, mask, for_z)
    else:
        dz = _fusion.by_platform(
            *(stored_dz, x, dy, mask, for_z),
            cpu=lambda dz, *_: dz,
            default=lambda _, *arrays: _dz(problem, *arrays),
        )
    mean, mean_x_hat = stored([to_channels(v, x.shape[-1]) for v in means])
    x_hat = _x_hat(problem, x, mask, stored(coefficients))
    dx = where(mask, _slope(for_z) * dz - mean - x_hat * mean_x_hat)
    return (
        dx.astype(saved.x.dtype),
        sum_to(saved.gamma, sum_dz_x_hat),
        sum_to(saved.beta, sum_dz),
    )


def _few_for_a_gpu(problem, saved: Saved) -> bool:
    """Whether sums per channel weigh, and are not needed but for gamma and beta."""
    x, kept = saved.x, saved.x.ndim - 1 - len(problem.reduced)
    return (
        saved.mask is None
        and problem.axis_name is None
        and not any(jax.typeof(x).sharding.spec)
        and all(math.prod(p.shape[:kept]) == 1 for p in saved[1:3] if p is not None)
        and _rows.serve_backward(problem.reduced, problem.groups, x)
    )


@differentiated_as(_cotangent)
def _cotangent_of_few(problem, saved, dy):
    as_ever = partial(_cotangent, problem)

    def gpu(saved, dy):
        # Devices that hold parts of the samples would have to exchange them.
        together = partial(_cotangent_with_parameters, problem)
        return _sharding.if_xla_may_split(as_ever, together, saved, dy)

    return _fusion.by_platform(saved, dy, gpu=gpu, default=as_ever)


def _cotangent_with_parameters(problem, saved: Saved, dy):
    """`cotangent` on a GPU where positions are few.

    The first pass sums whole groups, and the gradients of gamma and beta are summed in
    the pass that writes dx: no sum per sample and channel goes through memory
    (experiments/decisions/few_positions.py).
    """
    next_pass = partial(_fusion.next_pass, problem.reduced)

    def of_element(x, dy, coefficients):
        dz = _dz(problem, x, dy, None, coefficients)
        g = dz if coefficients.gamma is None else dz * coefficients.gamma
        return g, g * _x_hat(problem, x, None, coefficients)

    (x, dy), per_group = next_pass((saved.x, dy), group_coefficients(problem, saved))
    coefficients = _per_channel(problem, saved, per_group)
    totals = _statistics.group_sums(problem, of_element, x, dy, coefficients)
    (x, dy), (per_group, totals) = next_pass((x, dy), (per_group, totals))
    coefficients = _per_channel(problem, saved, per_group)
    mean, mean_x_hat = (
        to_channels(total / saved.moments.number, x.shape[-1]) for total in totals
    )
    g, _ = of_element(x, dy, coefficients)
    x_hat = _x_hat(problem, x, None, coefficients)
    dx = coefficients.rstd * (g - mean - x_hat * mean_x_hat)
    sum_dz, sum_dz_x_hat = _sums_over_samples(problem, saved, x, dy, per_group)
    return dx.astype(saved.x.dtype), sum_dz_x_hat, sum_dz


def _sums_over_samples(problem, saved, x, dy, per_group):
    """The gradients of beta and gamma, for a GPU to form in the pass that writes dx."""
    parameters = saved.gamma, saved.beta
    # From copies of its own, or XLA would store dz for both.
    parameters, per_group = jax.lax.optimization_barrier((parameters, per_group))
    saved = saved._replace(gamma=parameters[0], beta=parameters[1])
    coefficients = _per_channel(problem, saved, per_group)
    dz = _dz(problem, x, dy, None, coefficients)
    both = jax.lax.complex(dz, dz * _x_hat(problem, x, None, coefficients))
    total = _rows.over_samples(both)
    sums = jnp.real(total), jnp.imag(total)
    return (
        None if p is None else part.reshape(p.shape).astype(p.dtype)
        for p, part in zip(parameters[::-1], sums, strict=True)
    )


def _slope(coefficients: Coefficients):
    """How z grows with x."""
    if coefficients.gamma is None:
        return coefficients.rstd
    return coefficients.rstd * coefficients.gamma


def _stored_dz_and_sums(problem, x, *others):
    """What a CPU stores of dz, or None if no platform does, and `_backward_sums`.

    To form dz twice costs less than to store it, but not on a CPU if the activation has
    an exponential, say: there such loops are bound by arithmetic.
    """
    if not _activations.is_heavy(problem.activation, x.ndim):
        return None, _backward_sums(problem, x, *others)

    def cpu(x, dy, mask, coefficients, for_z):
        dz = _dz(problem, x, dy, mask, for_z)
        dz = jax.lax.optimization_barrier(dz)
        given = dataclasses.replace(problem, activation=None)
        return dz, _backward_sums(given, x, dz, mask, coefficients, for_z)

    def default(x, dy, *others):
        sums = _backward_sums(problem, x, dy, *others)
        return dy.astype(problem.compute_dtype), sums

    return _fusion.by_platform(x, *others, cpu=cpu, default=default)


def _backward_sums(problem, x, dy, mask, coefficients, for_z):
    """Per channel the sums of dz, of dz where x is kept, and of dz * x_hat."""

    def of_element(x, dy, mask, coefficients, for_z):
        dz = _dz(problem, x, dy, mask, for_z)
        return dz, dz * _x_hat(problem, x, mask, coefficients)

    arrays = x, dy, mask, coefficients, for_z
    sum_dz, sum_dz_x_hat = _sums.sums(problem.reduced, None, of_element, *arrays)
    if mask is None:
        return sum_dz, sum_dz, sum_dz_x_hat
    kept = where(mask, of_element(*arrays)[0])
    return sum_dz, _sums.spatial_sum(problem.reduced, kept), sum_dz_x_hat


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
