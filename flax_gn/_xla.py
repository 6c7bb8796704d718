"""Group norm for every platform, as plain JAX that XLA fuses well.

Accuracy. A pilot, the mean of a few values per group, is subtracted before
anything is summed. Sums of x - pilot and (x - pilot)^2 then lose no digits however
large the mean is (Chan, Golub, LeVeque, The American Statistician 37 (1983)
242-247: the loss grows with ((pilot - mean) / deviation)^2, not with
(mean / deviation)^2), and one read of x yields both. The output is formed as
(x - pilot) - (mean - pilot), so it loses none either.

Memory. Reverse mode keeps x, gamma, beta and the statistics. `custom_jvp` gives
the tangent in closed form and `jax.checkpoint` makes the backward pass rebuild the
normalised values from x. Unlike `custom_vjp` this keeps forward mode, and with it
Hessian-vector products.

Layout. x is never reshaped: it is summed over its spatial axes per channel, and only
those small sums are folded to groups. A split of the channel axis would cost a
relayout on a TPU and a gather when channels are sharded.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flax_gn._problem import Operands, Problem

# Positions sampled for the pilot. With k of m positions its distance to the mean is at
# most sqrt(m / k) deviations (Cauchy-Schwarz), and about 1 / sqrt(k) for real data.
_PILOT_POSITIONS = 16


class Moments(NamedTuple):
    """Statistics per group, each of shape (*kept, 1, ..., G) with x's rank.

    Attributes:
      pilot: a value near the mean; constant under differentiation.
      shift: mean - pilot.
      var: biased variance.
      count: values in the group, of x's compute dtype; 1 where there are none.
    """

    pilot: jax.Array
    shift: jax.Array
    var: jax.Array
    count: jax.Array


def group_norm(problem: Problem, operands: Operands) -> jax.Array:
    """See `flax_gn.group_norm`."""
    return _normalise(problem, operands.x, operands.gamma, operands.beta, operands.mask)


def group_stats(problem: Problem, operands: Operands) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance, shape (*kept, G)."""
    moments = _moments(problem, operands.x, operands.mask)
    mean = moments.pilot + moments.shift
    return jnp.squeeze(mean, problem.reduced), jnp.squeeze(moments.var, problem.reduced)


@partial(jax.jit, static_argnums=0)
def _normalise(problem, x, gamma, beta, mask):
    return _group_norm(problem, x, gamma, beta, mask)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _group_norm(problem, x, gamma, beta, mask):
    moments = _moments(problem, x, mask)
    return _apply(problem, x, gamma, beta, mask, moments)


@_group_norm.defjvp
def _group_norm_jvp(problem, primals, tangents):
    x, gamma, beta, mask = primals
    moments = _moments(problem, x, mask)
    y = _apply(problem, x, gamma, beta, mask, moments)
    tangent = jax.checkpoint(partial(_tangent, problem), prevent_cse=False)
    return y, tangent(x, gamma, beta, mask, moments, tangents[:3])


def _apply(problem, x, gamma, beta, mask, moments):
    """y = activation(gamma * (x - mean) / sqrt(var + eps) + beta)."""
    centred = _centred(problem, x, mask, moments)
    scale = _to_channels(_rstd(problem, moments), x.shape[-1])
    if gamma is not None:
        scale = scale * gamma.astype(scale.dtype)
    y = _affine(centred * scale, beta)
    if problem.activation is not None:
        y = problem.activation(y)
    return y.astype(problem.out_dtype)


def _tangent(problem, x, gamma, beta, mask, moments, tangents):
    """The directional derivative of `_apply`, linear in ``tangents``.

    With x_hat the normalised input and <.> the mean over a group,

        dy = gamma * rstd * (dx - <dx> - x_hat * <x_hat * dx>) + dgamma * x_hat + dbeta

    It is written as a * dx + c1 * x_hat + c0 with small c1 and c0, because its
    transpose, the backward pass, is then one read of dy and x for the two sums
    sum(dy) and sum(dy * x_hat) per channel, which serve dgamma, dbeta and dx alike,
    and a second read that writes dx. The sums are centred: sum(dy * x) would lose
    digits when the mean is large.
    """
    dx, dgamma, dbeta = tangents
    rstd = _to_channels(_rstd(problem, moments), x.shape[-1])
    x_hat = _centred(problem, x, mask, moments) * rstd
    dx = _where(mask, dx.astype(problem.compute_dtype))
    scale = rstd if gamma is None else rstd * gamma.astype(rstd.dtype)
    mean_dx, mean_x_hat_dx = (
        _to_channels(mean, x.shape[-1])
        for mean in _group_means(problem, (dx, x_hat * dx), moments.count)
    )
    c0 = -scale * mean_dx
    c1 = -scale * mean_x_hat_dx
    if dgamma is not None:
        c1 = c1 + dgamma.astype(c1.dtype)
    if dbeta is not None and mask is None:
        c0 = c0 + dbeta.astype(c0.dtype)
    dy = _where(mask, scale * dx + c1 * x_hat + c0)
    if dbeta is not None and mask is not None:
        dy = dy + dbeta.astype(dy.dtype)
    if problem.activation is not None:
        z = x_hat if gamma is None else x_hat * gamma.astype(x_hat.dtype)
        _, dy = jax.jvp(problem.activation, (_affine(z, beta),), (dy,))
    return dy.astype(problem.out_dtype)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _moments(problem, x, mask) -> Moments:
    pilot, count = _pilot_and_count(problem, x, mask)
    centred = _where(mask, _minus(problem, x, pilot))
    total, square = _group_sums(problem, (centred, jnp.square(centred)))
    divisor = jnp.maximum(count, 1)
    shift = total / divisor
    var = jnp.maximum(square / divisor - jnp.square(shift), 0)
    if problem.axis_name is None:
        return Moments(pilot, shift, var, divisor)
    # A device that keeps nothing enters the merge with its true count, zero.
    return _merge_over_devices(problem, Moments(pilot, shift, var, count))


@_moments.defjvp
def _moments_jvp(problem, primals, tangents):
    """d mean = <dx> and d var = 2 <(x - mean) dx>; the pilot is a constant."""
    x, mask = primals
    moments = _moments(problem, x, mask)

    @partial(jax.checkpoint, prevent_cse=False)
    def tangent(x, moments, dx):
        dx = _where(mask, dx.astype(problem.compute_dtype))
        centred = _centred(problem, x, mask, moments)
        mean_dx, mean_x_dx = _group_means(problem, (dx, centred * dx), moments.count)
        zeros = jax.tree.map(jnp.zeros_like, moments)
        return zeros._replace(shift=mean_dx, var=2 * mean_x_dx)

    return moments, tangent(x, moments, tangents[0])


def _pilot_and_count(problem, x, mask) -> tuple[jax.Array, jax.Array]:
    """A value near the mean of each group, and how many values the group has.

    The pilot is offset + mean(sample - offset) with the offset taken from the group,
    so that it equals the value of a constant group exactly; a plain mean does not.
    """
    if mask is not None:
        return _masked_pilot_and_count(problem, x, mask)
    channels = x.shape[-1]
    size = channels // problem.groups
    sample = _sample(problem, x).astype(problem.compute_dtype)
    first = tuple(
        slice(0, 1) if axis in problem.reduced else slice(None)
        for axis in range(x.ndim - 1)
    )
    offset = sample[*first, ::size]
    total = _fold(
        problem, _spatial_sum(problem, sample - _to_channels(offset, channels))
    )
    sampled, count = (
        math.prod(a.shape[axis] for axis in problem.reduced) * size for a in (sample, x)
    )
    pilot = offset + total / max(sampled, 1)
    return pilot, jnp.full((1,) * x.ndim, count, pilot.dtype)


def _sample(problem, x):
    """About `_PILOT_POSITIONS` positions, spread evenly over the reduced axes.

    Not from the edges: a border of padding is the commonest outlier.
    """
    if not problem.reduced:
        return x
    per_axis = max(2, round(_PILOT_POSITIONS ** (1 / len(problem.reduced))))
    index = [slice(None)] * x.ndim
    for axis in problem.reduced:
        stride = -(-x.shape[axis] // per_axis) or 1
        index[axis] = slice(stride // 2, None, stride)
    return x[tuple(index)]


def _masked_pilot_and_count(problem, x, mask):
    """As `_pilot_and_count`; every kept value is sampled, since any may be masked."""
    x = x.astype(problem.compute_dtype)
    kept = jnp.broadcast_to(mask, x.shape)
    count = _fold(problem, _spatial_sum(problem, kept.astype(x.dtype)))
    low = jnp.min(
        _split(problem, jnp.where(kept, x, jnp.inf)),
        (*problem.reduced, x.ndim),
        keepdims=True,
    )
    low = jnp.where(count > 0, low.squeeze(-1), 0)
    above = jnp.where(mask, x - _to_channels(low, x.shape[-1]), 0)
    total = _fold(problem, _spatial_sum(problem, above))
    return low + total / jnp.maximum(count, 1), count


def _merge_over_devices(problem, moments: Moments) -> Moments:
    """Merges per-device moments as Chan, Golub and LeVeque do, in one all-reduce.

    Every device writes its four small arrays into its own row and the rows are summed.
    Summing moments about a common pilot would need a second all-reduce to agree on
    the pilot, and sums about zero lose the digits this module is for.
    """
    devices = jax.lax.axis_size(problem.axis_name)
    own = jnp.arange(devices) == jax.lax.axis_index(problem.axis_name)
    local = jnp.stack(jnp.broadcast_arrays(*moments))
    rows = jnp.where(jnp.expand_dims(own, range(1, local.ndim + 1)), local, 0)
    rows = _sum_over_devices(problem, rows)
    pilots, shifts, variances, counts = (rows[:, i] for i in range(4))
    fullest = jnp.argmax(counts, 0, keepdims=True)
    pilot = jnp.take_along_axis(pilots, fullest, 0)
    count = jnp.maximum(jnp.sum(counts, 0, keepdims=True), 1)
    means = (pilots - pilot) + shifts
    shift = jnp.sum(counts * means, 0, keepdims=True) / count
    squares = counts * (variances + jnp.square(means - shift))
    var = jnp.sum(squares, 0, keepdims=True) / count
    return Moments(pilot[0], shift[0], var[0], count[0])


def _sum_over_devices(problem, values):
    if problem.axis_name is None:
        return values
    return jax.lax.psum(
        values, problem.axis_name, axis_index_groups=problem.axis_index_groups
    )


def _group_means(problem, values, count):
    sums = _sum_over_devices(problem, _group_sums(problem, values))
    return tuple(total / count for total in sums)


def _group_sums(problem, values):
    return tuple(_fold(problem, _spatial_sum(problem, value)) for value in values)


def _spatial_sum(problem, value):
    """Sum over the reduced axes, per channel: (*kept, 1, ..., C)."""
    return jnp.sum(value, problem.reduced, keepdims=True)


def _split(problem, value):
    """(..., C) to (..., G, C/G)."""
    size = value.shape[-1] // problem.groups
    return value.reshape(*value.shape[:-1], problem.groups, size)


def _fold(problem, per_channel):
    """Sum over the channels of each group: (..., C) to (..., G)."""
    return jnp.sum(_split(problem, per_channel), -1)


def _to_channels(per_group, channels):
    """Repeats each group's value for its channels: (..., G) to (..., C)."""
    *rest, groups = per_group.shape
    repeated = jnp.broadcast_to(
        per_group[..., None], (*rest, groups, channels // groups)
    )
    return repeated.reshape(*rest, channels)


def _minus(problem, x, pilot):
    return x.astype(problem.compute_dtype) - _to_channels(pilot, x.shape[-1])


def _centred(problem, x, mask, moments):
    """x - mean; zero where masked, which keeps what stands there out of everything."""
    shift = _to_channels(moments.shift, x.shape[-1])
    return _where(mask, _minus(problem, x, moments.pilot) - shift)


def _rstd(problem, moments):
    return jax.lax.rsqrt(moments.var + problem.eps)


def _affine(z, beta):
    return z if beta is None else z + beta.astype(z.dtype)


def _where(mask, value):
    return value if mask is None else jnp.where(mask, value, 0)
