"""The arithmetic of the norm, free of platforms: what is formed of each element.

With pilot a value near the mean, shift = mean - pilot, and rstd = 1 / sqrt(var + eps),

    x_hat = (x - pilot) * rstd - shift * rstd
    z     = gamma * x_hat + beta
    y     = activation(z)
    dz    = activation'(z) * dy

x is never reshaped: it is summed over its spatial axes per channel, and only those
small sums are folded to groups. A split of the channel axis would cost a relayout on a
TPU and a gather when channels are sharded.

It is written in jax.lax, for a network has its norm in many shapes: an operator or a
function of jax.numpy takes four times as long or more to trace in a new shape, as it
is jitted itself.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

# Two values that are formed, or summed, together.
Both = tuple[jax.Array, jax.Array]


class Moments(NamedTuple):
    """Statistics per group, each of shape (*kept, 1, ..., G) with x's rank.

    Attributes:
      pilot: a value near the mean; constant under differentiation.
      shift: mean - pilot.
      var: biased variance.
      number: of values in the group, of x's compute dtype; 1 where there are none.
    """

    pilot: jax.Array
    shift: jax.Array
    var: jax.Array
    number: jax.Array


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


def group_coefficients(problem, saved: Saved) -> tuple[jax.Array, jax.Array, jax.Array]:
    """pilot, rstd and offset of `Coefficients`, before they are repeated."""
    pilot, shift, var, _ = saved.moments
    rstd = lax.rsqrt(lax.add(var, constant(problem.eps, var)))
    return pilot, rstd, lax.mul(lax.neg(shift), rstd)


def per_channel(problem, saved: Saved, per_group) -> Coefficients:
    pilot, rstd, offset = (to_channels(v, saved.x.shape[-1]) for v in per_group)
    dtype = problem.compute_dtype
    return Coefficients(
        pilot=pilot,
        rstd=rstd,
        offset=offset,
        gamma=None if saved.gamma is None else saved.gamma.astype(dtype),
        beta=None if saved.beta is None else saved.beta.astype(dtype),
    )


def centred_and_square(problem, x, pilot, mask=None):
    """The two values, x - pilot and its square, whose sums make the moments."""
    value = centred(problem, x, mask, pilot)
    return value, lax.square(value)


def centred(problem, x, mask, pilot):
    """The value x - pilot; zero where masked."""
    return where(mask, lax.sub(widened(problem, x, mask), pilot))


def x_hat_of(problem, x, mask, coefficients: Coefficients):
    """The normalised input; zero where masked.

    pilot and offset are subtracted one after the other: their sum, the mean, would
    round away the digits that the pilot saves.
    """
    pilot, rstd, offset, *_ = coefficients
    centred = lax.sub(widened(problem, x, mask), pilot)
    return where(mask, lax.add(lax.mul(centred, rstd), offset))


def affine(x_hat, coefficients: Coefficients):
    gamma, beta = coefficients.gamma, coefficients.beta
    z = x_hat if gamma is None else lax.mul(x_hat, gamma)
    return z if beta is None else lax.add(z, beta)


def z_of(problem, x, mask, coefficients: Coefficients):
    """The activation's argument."""
    return affine(x_hat_of(problem, x, mask, coefficients), coefficients)


def y_of(problem, x, mask, coefficients: Coefficients):
    """The result."""
    return activated(problem, z_of(problem, x, mask, coefficients))


def activated(problem, z):
    """The result, of the activation's argument."""
    if problem.activation is not None:
        z = problem.activation(z)
    return z.astype(problem.out_dtype)


def dz_of(problem, x, dy, mask, coefficients: Coefficients):
    """The cotangent of z."""
    return pulled_back(problem, lambda: z_of(problem, x, mask, coefficients), dy)


def pulled_back(problem, z: Callable[[], jax.Array], dy):
    """The cotangent of the activation's argument, which is formed if it is needed."""
    dy = dy.astype(problem.compute_dtype)
    if problem.activation is None:
        return dy
    return jax.vjp(problem.activation, z())[1](dy)[0]


def dz_and_product(problem, x, dy, mask, coefficients: Coefficients):
    """The two values, dz and dz * x_hat, whose sums make the gradients."""
    dz = dz_of(problem, x, dy, mask, coefficients)
    return dz, lax.mul(dz, x_hat_of(problem, x, mask, coefficients))


def dx_of(g, x_hat, means):
    """``g - <g> - x_hat * <x_hat * g>``; dx, for g = rstd * gamma * dz.

    Args:
      g: gamma * dz, or rstd times as much.
      x_hat: the normalised input.
      means: <g> and <x_hat * g>, per group.
    """
    mean, mean_x_hat = (to_channels(v, g.shape[-1]) for v in means)
    return lax.sub(lax.sub(g, mean), lax.mul(x_hat, mean_x_hat))


def slope(coefficients: Coefficients):
    """How z grows with x."""
    rstd, gamma = coefficients.rstd, coefficients.gamma
    return rstd if gamma is None else lax.mul(rstd, gamma)


def spatial_sum(axes, value: jax.Array) -> jax.Array:
    """Sum over the reduced axes, per channel: (*kept, 1, ..., C)."""
    return lax.expand_dims(lax.reduce_sum(value, axes), axes)


def separate_sum(axes, value: jax.Array) -> jax.Array:
    """`spatial_sum`, which XLA does not merge with a later one.

    Over samples or channels, that is, after which two sums would no longer share one
    read of what they are formed from.
    """
    return lax.optimization_barrier(spatial_sum(axes, value))


def sum_per_group(groups: int, value: jax.Array) -> jax.Array:
    """Sums over the channels of each group, (..., C) to (..., G)."""
    return lax.reduce_sum(to_groups(groups, value), [value.ndim])


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
    return spatial_sum(axes, value).astype(parameter.dtype)


def part(arrays: Any, axis: int, start: int, end: int) -> Any:
    """A part of arrays along an axis; those of size 1 there take part in all."""

    def of(array):
        if array.shape[axis] == 1:
            return array
        return lax.slice_in_dim(array, start, end, axis=axis)

    return jax.tree.map(of, arrays)


def to_groups(groups: int, value: jax.Array) -> jax.Array:
    """(..., C) to (..., G, C/G)."""
    *rest, channels = value.shape
    return lax.reshape(value, (*rest, groups, channels // groups))


def to_channels(per_group: jax.Array, channels: int) -> jax.Array:
    """Repeats each group's value for its channels: (..., G) to (..., C)."""
    *rest, groups = per_group.shape
    if groups == channels:
        return per_group
    shape = (*rest, groups, channels // groups)
    repeated = lax.broadcast_in_dim(per_group, shape, range(per_group.ndim))
    return lax.reshape(repeated, (*rest, channels))


def where(mask: jax.Array | None, value: jax.Array) -> jax.Array:
    """``value``, zero where masked: nothing that stands there goes any further."""
    return value if mask is None else jnp.where(mask, value, 0)


def widened(problem, x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """An array in the compute dtype, zero where masked.

    Nothing is computed of a masked NaN, not even its other dtype: `jax.debug_nans` and
    `checkify` look at every operation.
    """
    return where(mask, x).astype(problem.compute_dtype)


def constant(value: Any, like: jax.Array) -> jax.Array:
    """A number as an array that broadcasts, of an array's rank and dtype."""
    return lax.full((1,) * like.ndim, value, like.dtype)
