"""Group norm for every platform, as plain JAX that XLA fuses well.

Forward reads x for its two sums and again to write y; backward reads x and dy for two
sums, and again to write dx. Reverse mode keeps x, gamma, beta, the mask and the
statistics, and rebuilds everything else from them.
"""

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp

from flax_gn import (
    _activations,
    _fold,
    _fusion,
    _rows,
    _sharding,
    _statistics,
    _sums,
)
from flax_gn._arithmetic import (
    Coefficients,
    Saved,
    affine,
    dz_of,
    group_coefficients,
    per_channel,
    slope,
    sum_to,
    x_hat_of,
    z_of,
)
from flax_gn._call import call, linear_call
from flax_gn._problem import Operands, Problem
from flax_gn._statistics import to_channels, where, widened
from flax_gn._target import target


def group_norm(problem: Problem, operands: Operands) -> jax.Array:
    """See `flax_gn.group_norm`."""
    return _jitted(problem, operands.x, operands.gamma, operands.beta, operands.mask)


def group_stats(problem: Problem, operands: Operands) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance, shape (*kept, G)."""
    mean, var = _jitted_stats(problem, operands.x, operands.mask)
    return jnp.squeeze(mean, problem.reduced), jnp.squeeze(var, problem.reduced)


@partial(jax.jit, static_argnums=(0, 1))
def _called(function, problem, *args):
    """Traced once for a function and for its derivative, which calls it too."""
    return call(partial(function, problem), *args)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _moments(problem, x, mask):
    return _called(_statistics.moments, problem, x, mask)


@_moments.defjvp
def _moments_jvp(problem, primals, tangents):
    x, mask = primals
    value = _moments(problem, x, mask)
    return value, _statistics.tangent(problem, x, mask, value, tangents[0])


def _group_stats(problem, x, mask):
    moments = _moments(problem, x, mask)
    return moments.pilot + moments.shift, moments.var


def forward(problem, x, gamma, beta, mask=None):
    """The result and its moments."""
    moments = _statistics.moments(problem, x, mask)
    return _apply(problem, Saved(x, gamma, beta, mask, moments)), moments


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _forward(problem, x, gamma, beta, mask):
    return _called(forward, problem, x, gamma, beta, mask)


@_forward.defjvp
def _forward_jvp(problem, primals, tangents):
    """For derivatives of derivatives, which ask for those of the moments."""
    x, *_, mask = primals
    y, moments = _forward(problem, *primals)
    d_moments = _statistics.tangent(problem, x, mask, moments, tangents[0])
    return (y, moments), (_along(problem, primals, moments, tangents), d_moments)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _group_norm(problem, x, gamma, beta, mask):
    return _forward(problem, x, gamma, beta, mask)[0]


@_group_norm.defjvp
def _group_norm_jvp(problem, primals, tangents):
    y, moments = _forward(problem, *primals)
    return y, _along(problem, primals, moments, tangents)


def _along(problem, primals, moments, tangents):
    """The derivative of the result along tangents."""
    x, gamma, beta, mask = primals
    saved = Saved(x, gamma, beta, mask, moments)
    return linear_call(
        partial(tangent, problem), partial(cotangent, problem), saved, tangents[:3]
    )


_jitted = jax.jit(partial(_sharding.over_devices, _group_norm), static_argnums=0)
_jitted_stats = jax.jit(
    partial(_sharding.over_devices, _group_stats, per_group=True), static_argnums=0
)


def _for_z(problem, x, mask, coefficients: Coefficients) -> Coefficients:
    """What serves `z_of` and `slope` alone; on a CPU it takes fewer operations.

    There gamma and beta go into rstd and offset: passes are bound by arithmetic.
    Accelerators have the time, and would form the products in kernels of their own.
    Where x is masked, z is beta.
    """
    if mask is not None:
        return _stored(problem, x, coefficients)
    if target().platform != "cpu":
        return coefficients
    pilot, rstd, offset, gamma, beta = coefficients
    if gamma is not None:
        rstd, offset, gamma = rstd * gamma, offset * gamma, None
    if beta is not None:
        offset, beta = offset + beta, None
    pilot, rstd, offset = _stored(problem, x, (pilot, rstd, offset))
    return Coefficients(pilot, rstd, offset, gamma, beta)


def _stored(problem, x, coefficients):
    """`_fusion.stored`, for a pass that forms z."""
    heavy = _activations.is_heavy(problem.activation, x.ndim)
    return _fusion.stored(problem.reduced, x, coefficients, always=heavy)


def _apply(problem, saved: Saved):
    """Y = activation(gamma * x_hat + beta)."""
    x, per_group = _fusion.next_pass(
        problem.reduced, saved.x, group_coefficients(problem, saved)
    )
    coefficients = per_channel(problem, saved, per_group)
    coefficients = _for_z(problem, x, saved.mask, coefficients)
    y = z_of(problem, x, saved.mask, coefficients)
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
    coefficients = per_channel(problem, saved, per_group)
    coefficients = _stored(problem, saved.x, coefficients)

    def of_element(x, dx, coefficients, mask):
        x_hat = x_hat_of(problem, x, mask, coefficients)
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
        z = affine(x_hat, coefficients)
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
        return _cotangent_with_parameters(problem, saved, dy)
    return _cotangent(problem, saved, dy)


def _cotangent(problem, saved, dy):
    mask = saved.mask
    next_pass = partial(_fusion.next_pass, problem.reduced)
    stored = partial(_fusion.stored, problem.reduced, saved.x)
    (x, dy), per_group = next_pass((saved.x, dy), group_coefficients(problem, saved))
    coefficients = per_channel(problem, saved, per_group)
    for_z = _for_z(problem, x, mask, coefficients)
    stored_dz, (sum_dz, sum_kept_dz, sum_dz_x_hat) = _stored_dz_and_sums(
        problem, x, dy, mask, stored(coefficients), for_z
    )
    of_x = slope(coefficients)
    totals = _fold.fold(
        problem.groups, of_x * sum_kept_dz, of_x * sum_dz_x_hat, backward=True
    )
    means = tuple(
        total / saved.moments.number
        for total in _statistics.sum_over_devices(problem, totals)
    )
    x, dy = _fusion.read_again(x, dy)
    (x, dy), (per_group, means) = next_pass((x, dy), (per_group, means))
    coefficients = per_channel(problem, saved, per_group)
    for_z = _for_z(problem, x, mask, coefficients)
    dz = dz_of(problem, x, dy, mask, for_z) if stored_dz is None else stored_dz
    mean, mean_x_hat = stored([to_channels(v, x.shape[-1]) for v in means])
    x_hat = x_hat_of(problem, x, mask, stored(coefficients))
    dx = where(mask, slope(for_z) * dz - mean - x_hat * mean_x_hat)
    return (
        dx.astype(saved.x.dtype),
        sum_to(saved.gamma, sum_dz_x_hat),
        sum_to(saved.beta, sum_dz),
    )


def _few_for_a_gpu(problem, saved: Saved) -> bool:
    """Whether sums per channel weigh, and are not needed but for gamma and beta.

    Devices that hold parts of the samples would have to exchange them.
    """
    x, kept = saved.x, saved.x.ndim - 1 - len(problem.reduced)
    return (
        target().platform == "gpu"
        and not target().split
        and saved.mask is None
        and problem.axis_name is None
        and not any(jax.typeof(x).sharding.spec)
        and all(math.prod(p.shape[:kept]) == 1 for p in saved[1:3] if p is not None)
        and _rows.serve_backward(problem.reduced, problem.groups, x)
    )


def _cotangent_with_parameters(problem, saved: Saved, dy):
    """`cotangent` on a GPU where positions are few.

    The first pass sums whole groups, and the gradients of gamma and beta are summed in
    the pass that writes dx: no sum per sample and channel goes through memory
    (experiments/decisions/few_positions.py).
    """
    next_pass = partial(_fusion.next_pass, problem.reduced)

    def of_element(x, dy, coefficients):
        dz = dz_of(problem, x, dy, None, coefficients)
        g = dz if coefficients.gamma is None else dz * coefficients.gamma
        return g, g * x_hat_of(problem, x, None, coefficients)

    (x, dy), per_group = next_pass((saved.x, dy), group_coefficients(problem, saved))
    coefficients = per_channel(problem, saved, per_group)
    totals = _statistics.group_sums(problem, of_element, x, dy, coefficients)
    (x, dy), (per_group, totals) = next_pass((x, dy), (per_group, totals))
    coefficients = per_channel(problem, saved, per_group)
    mean, mean_x_hat = (
        to_channels(total / saved.moments.number, x.shape[-1]) for total in totals
    )
    g, _ = of_element(x, dy, coefficients)
    x_hat = x_hat_of(problem, x, None, coefficients)
    dx = coefficients.rstd * (g - mean - x_hat * mean_x_hat)
    sum_dz, sum_dz_x_hat = _sums_over_samples(problem, saved, x, dy, per_group)
    return dx.astype(saved.x.dtype), sum_dz_x_hat, sum_dz


def _sums_over_samples(problem, saved, x, dy, per_group):
    """The gradients of beta and gamma, for a GPU to form in the pass that writes dx."""
    parameters = saved.gamma, saved.beta
    # From copies of its own, or XLA would store dz for both.
    parameters, per_group = jax.lax.optimization_barrier((parameters, per_group))
    saved = saved._replace(gamma=parameters[0], beta=parameters[1])
    coefficients = per_channel(problem, saved, per_group)
    dz = dz_of(problem, x, dy, None, coefficients)
    both = jax.lax.complex(dz, dz * x_hat_of(problem, x, None, coefficients))
    total = _rows.over_samples(both)
    sums = jnp.real(total), jnp.imag(total)
    return (
        None if p is None else part.reshape(p.shape).astype(p.dtype)
        for p, part in zip(parameters[::-1], sums, strict=True)
    )


def _stored_dz_and_sums(problem, x, dy, mask, coefficients, for_z):
    """What a CPU stores of dz, or None, and `_backward_sums`.

    To form dz twice costs less than to store it, but not on a CPU if the activation has
    an exponential, say: there such loops are bound by arithmetic.
    """
    heavy = _activations.is_heavy(problem.activation, x.ndim)
    if target().platform != "cpu" or not heavy:
        return None, _backward_sums(problem, x, dy, mask, coefficients, for_z)
    dz = jax.lax.optimization_barrier(dz_of(problem, x, dy, mask, for_z))
    given = dataclasses.replace(problem, activation=None)
    return dz, _backward_sums(given, x, dz, mask, coefficients, for_z)


def _backward_sums(problem, x, dy, mask, coefficients, for_z):
    """Per channel the sums of dz, of dz where x is kept, and of dz * x_hat."""

    def of_element(x, dy, mask, coefficients, for_z):
        dz = dz_of(problem, x, dy, mask, for_z)
        return dz, dz * x_hat_of(problem, x, mask, coefficients)

    arrays = x, dy, mask, coefficients, for_z
    sum_dz, sum_dz_x_hat = _sums.sums(problem.reduced, None, of_element, *arrays)
    if mask is None:
        return sum_dz, sum_dz, sum_dz_x_hat
    kept = where(mask, of_element(*arrays)[0])
    return sum_dz, _sums.spatial_sum(problem.reduced, kept), sum_dz_x_hat
