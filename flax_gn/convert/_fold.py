"""Running statistics folded into a group norm's scale and bias."""

import jax
import jax.numpy as jnp


def fold(
    scale: jax.Array | None,
    bias: jax.Array | None,
    mean: jax.Array,
    var: jax.Array,
    groups: int,
    epsilon: float,
) -> tuple[jax.Array, jax.Array]:
    """Scale and bias with which group norm continues where batch norm stood.

    The running mean and variance of a group's channels imply those of the group::

        group_mean = mean over the group of mean
        group_var  = mean over the group of var + (mean - group_mean)^2

    Wherever a sample has these statistics, the folded group norm equals batch norm in
    inference, gamma * (x - mean) / sqrt(var + eps) + beta, channel by channel::

        scale = gamma * sqrt((group_var + eps) / (var + eps))
        bias  = beta + gamma * (group_mean - mean) / sqrt(var + eps)

    All arrays have shape (..., C).
    """
    by_group = (*mean.shape[:-1], groups, mean.shape[-1] // groups)
    means, variances = mean.reshape(by_group), var.reshape(by_group)
    group_mean = jnp.mean(means, -1, keepdims=True)
    group_var = jnp.mean(variances + (means - group_mean) ** 2, -1, keepdims=True)
    gamma = jnp.ones_like(mean) if scale is None else scale
    beta = jnp.zeros_like(mean) if bias is None else bias
    widen = jnp.sqrt((group_var + epsilon) / (variances + epsilon)).reshape(mean.shape)
    move = ((group_mean - means) / jnp.sqrt(variances + epsilon)).reshape(mean.shape)
    return (gamma * widen).astype(gamma.dtype), (beta + gamma * move).astype(beta.dtype)
