"""The definition, literally. Everything else in the package is held against it.

    mean[n, g] = sum over S(n, g) of x / m
    var[n, g]  = sum over S(n, g) of (x - mean)^2 / m
    y          = gamma * (x - mean) / sqrt(var + eps) + beta

Wu & He, "Group Normalization" (2018), equations 1, 2, 6 and 7. It is written to be
read: it is neither lean nor safe against a mean that dwarfs the deviation.
"""

import jax
import jax.numpy as jnp

from flax_gn._problem import Operands, Problem


def group_norm(problem: Problem, operands: Operands) -> jax.Array:
    """The equations on (*kept, *spatial, G, C/G) views of the operands."""
    x, mask = _groups_apart(problem, operands)
    mean, var, kept = _moments(problem, x, mask)
    x_hat = (x - mean) / jnp.sqrt(var + problem.eps)
    if mask is not None:
        x_hat = jnp.where(mask & (kept > 0), x_hat, 0)
    y = x_hat.reshape(operands.x.shape)
    if operands.gamma is not None:
        y = y * operands.gamma.astype(y.dtype)
    if operands.beta is not None:
        y = y + operands.beta.astype(y.dtype)
    if problem.activation is not None:
        y = problem.activation(y)
    return y.astype(problem.out_dtype)


def group_stats(problem: Problem, operands: Operands) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance, shape (*kept, G)."""
    x, mask = _groups_apart(problem, operands)
    mean, var, _ = _moments(problem, x, mask)
    axes = (*problem.reduced, x.ndim - 1)
    return jnp.squeeze(mean, axes), jnp.squeeze(var, axes)


def _groups_apart(
    problem: Problem, operands: Operands
) -> tuple[jax.Array, jax.Array | None]:
    """Splits x and mask: (*kept, *spatial, G, C/G); masked values become zero."""
    x, mask = operands.x, operands.mask
    if mask is not None:
        # `jnp.where` would convert x first, and `jax.debug_nans` look at it.
        kept = jnp.broadcast_to(mask, x.shape)
        x = jax.lax.select(kept, x, jnp.zeros_like(x))
    shape = (*x.shape[:-1], problem.groups, x.shape[-1] // problem.groups)
    x = x.astype(problem.compute_dtype).reshape(shape)
    if mask is None:
        return x, None
    if mask.shape[-1] == 1:
        return x, mask[..., None]
    return x, mask.reshape(*mask.shape[:-1], *shape[-2:])


def _moments(
    problem: Problem, x: jax.Array, mask: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean, variance and count over the reduced axes and a group's channels."""
    axes = (*problem.reduced, x.ndim - 1)

    def total(values: jax.Array) -> jax.Array:
        if mask is not None:
            values = jnp.where(mask, values, 0)
        values = jnp.sum(values, axes, keepdims=True)
        if problem.axis_name is not None:
            values = jax.lax.psum(
                values,
                problem.axis_name,
                axis_index_groups=problem.axis_index_groups,
            )
        return values

    kept = total(jnp.ones_like(x))
    m = jnp.maximum(kept, 1)
    mean = total(x) / m
    var = total((x - mean) ** 2) / m
    return mean, var, kept
