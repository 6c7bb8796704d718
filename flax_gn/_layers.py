"""What the linen and nnx layers share: how Flax's arguments become one call."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from flax_gn import _problem
from flax_gn.functional import group_norm

# A number, or a rule that gives one for a number of channels.
NumGroups = int | Callable[[int], int] | None


class GroupNormLayer(Protocol):
    """The attributes that both layers have, under Flax's names."""

    epsilon: float
    reduction_axes: int | Sequence[int] | None
    axis_name: Any
    axis_index_groups: Any
    activation: str | _problem.Activation | None


def call(
    layer: GroupNormLayer,
    x: jax.Array,
    gamma: jax.Array | None,
    beta: jax.Array | None,
    *,
    num_groups: NumGroups,
    group_size: int | None,
    mask: jax.Array | None,
    scale: jax.Array | None,
    shift: jax.Array | None,
    dtype: DTypeLike | None,
) -> jax.Array:
    """Applies a layer whose parameters are ``gamma`` and ``beta``."""
    gamma, beta = modulate(gamma, beta, scale, shift)
    if callable(num_groups):
        num_groups = num_groups(x.shape[-1]) if jnp.ndim(x) else None
    return group_norm(
        x,
        gamma,
        beta,
        num_groups,
        group_size=group_size,
        eps=layer.epsilon,
        mask=mask,
        reduction_axes=layer.reduction_axes,
        activation=layer.activation,
        axis_name=layer.axis_name,
        axis_index_groups=layer.axis_index_groups,
        dtype=dtype,
    )


def modulate(
    gamma: jax.Array | None,
    beta: jax.Array | None,
    scale: jax.Array | None,
    shift: jax.Array | None,
) -> tuple[jax.Array | None, jax.Array | None]:
    """Folds (gamma * x_hat + beta) * (1 + scale) + shift into one gamma and beta.

    In float32 or wider: a bfloat16 1 + scale would keep only eight bits.
    """
    if scale is not None:
        scale = 1 + _widened(scale)
        gamma = scale if gamma is None else scale * _like(gamma, scale)
        beta = None if beta is None else scale * _like(beta, scale)
    if shift is not None:
        shift = _widened(shift)
        beta = shift if beta is None else shift + _like(beta, shift)
    return gamma, beta


def _widened(value: jax.Array) -> jax.Array:
    return jnp.asarray(value, _problem.compute_dtype(jnp.result_type(value)))


def _like(parameter: jax.Array, value: jax.Array) -> jax.Array:
    """A (C,) or (..., C) parameter with the rank and dtype of ``value``."""
    parameter = parameter.astype(value.dtype)
    missing = value.ndim - parameter.ndim
    return jnp.expand_dims(parameter, range(missing)) if missing > 0 else parameter
