"""The arithmetic of the norm, free of platforms: what is formed of each element.

With pilot a value near the mean, shift = mean - pilot, and rstd = 1 / sqrt(var + eps),

    x_hat = (x - pilot) * rstd - shift * rstd
    z     = gamma * x_hat + beta
    y     = activation(z)
    dz    = activation'(z) * dy
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

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


def group_coefficients(problem, saved: Saved) -> tuple[jax.Array, jax.Array, jax.Array]:
    """pilot, rstd and offset of `Coefficients`, before they are repeated."""
    rstd = jax.lax.rsqrt(saved.moments.var + problem.eps)
    return saved.moments.pilot, rstd, -saved.moments.shift * rstd


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


def x_hat_of(problem, x, mask, coefficients: Coefficients):
    """The normalised input; zero where masked.

    pilot and offset are subtracted one after the other: their sum, the mean, would
    round away the digits that the pilot saves.
    """
    centred = widened(problem, x, mask) - coefficients.pilot
    return where(mask, centred * coefficients.rstd + coefficients.offset)


def affine(x_hat, coefficients: Coefficients):
    z = x_hat if coefficients.gamma is None else x_hat * coefficients.gamma
    return z if coefficients.beta is None else z + coefficients.beta


def z_of(problem, x, mask, coefficients: Coefficients):
    """The activation's argument."""
    return affine(x_hat_of(problem, x, mask, coefficients), coefficients)


def dz_of(problem, x, dy, mask, coefficients: Coefficients):
    """The cotangent of z."""
    dy = dy.astype(problem.compute_dtype)
    if problem.activation is None:
        return dy
    return jax.vjp(problem.activation, z_of(problem, x, mask, coefficients))[1](dy)[0]


def slope(coefficients: Coefficients):
    """How z grows with x."""
    if coefficients.gamma is None:
        return coefficients.rstd
    return coefficients.rstd * coefficients.gamma


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
