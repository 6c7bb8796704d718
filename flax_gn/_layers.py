"""What the linen and nnx layers share: how Flax's arguments become one call."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from flax_gn import _activations, _arguments, _operands, _problem
from flax_gn._words import said, spoken_by
from flax_gn.functional import group_norm

# A number, or a rule that gives one for a number of channels.
NumGroups = int | Callable[[int], int] | None

# Flax's default, which stands aside for a group size.
DEFAULT_GROUPS = 32


class Layer(Protocol):
    """The attributes that all layers here have, under Flax's names."""

    epsilon: float
    axis_name: Any
    axis_index_groups: Any
    activation: str | _problem.Activation | None
    implementation: str | None


def speaking(layer: Any) -> AbstractContextManager[None]:
    """Lets errors speak the words of a layer."""
    return spoken_by(
        type(layer).__name__,
        groups="num_groups",
        eps="epsilon",
        gamma="scale",
        beta="bias",
    )


def number_of_groups(num_groups: NumGroups, group_size: Any, channels: int) -> int:
    """The number of groups of a layer."""
    if group_size is not None and num_groups == DEFAULT_GROUPS:
        num_groups = None
    if callable(num_groups):
        num_groups = num_groups(channels)
    return _arguments.number_of_groups(num_groups, group_size, channels)


def shape_of(x: Any) -> tuple[Any, ...]:
    """The shape of x, with channels; what has none is refused by name."""
    shape = x.shape if hasattr(x, "shape") else _operands.floating_array("x", x).shape
    _operands.check_rank(shape)
    return shape


def floating(
    x: jax.Array,
    parameters: Sequence[jax.Array | None],
    dtype: DTypeLike | None,
    canonicalize_dtype: Callable[..., Any],
) -> tuple[jax.Array, Any]:
    """X, of integers no more, and the dtype of the result, as Flax has it.

    Integers are as wide as the result when they are converted, and do not decide it.
    """
    if not jnp.issubdtype(x.dtype, jnp.integer) and x.dtype != jnp.bool_:
        x = _operands.floating_array("x", x)
        return x, canonicalize_dtype(x, *parameters, dtype=dtype)
    if dtype is None and all(parameter is None for parameter in parameters):
        dtype = jnp.float32
    result = canonicalize_dtype(*parameters, dtype=dtype)
    return jnp.asarray(x, _problem.compute_dtype(result)), result


def call(
    layer: Layer,
    x: jax.Array,
    gamma: jax.Array | None,
    beta: jax.Array | None,
    *,
    groups: int,
    reduction_axes: int | Sequence[int] | None,
    mask: ArrayLike | None,
    scale: ArrayLike | None,
    shift: ArrayLike | None,
    dtype: DTypeLike | None,
    axis_name: Any,
) -> jax.Array:
    """Applies a layer whose parameters are ``gamma`` and ``beta``."""
    if scale is not None or shift is not None:
        gamma, beta = modulate(x.shape, reduction_axes, gamma, beta, scale, shift)
    fused = _activations.is_fused(layer.activation)
    y = group_norm(
        x,
        gamma,
        beta,
        groups,
        eps=layer.epsilon,
        mask=mask,
        reduction_axes=reduction_axes,
        activation=layer.activation if fused else None,
        axis_name=axis_name,
        axis_index_groups=None if axis_name is None else layer.axis_index_groups,
        dtype=dtype,
        implementation=layer.implementation,
    )
    if fused:
        return y
    activation: Any = layer.activation
    return _activations.Elementwise(activation)(y)


def modulate(
    shape: tuple[int, ...],
    reduction_axes: int | Sequence[int] | None,
    gamma: jax.Array | None,
    beta: jax.Array | None,
    scale: ArrayLike | None,
    shift: ArrayLike | None,
) -> tuple[jax.Array | None, jax.Array | None]:
    """Folds (gamma * x_hat + beta) * (1 + scale) + shift into one gamma and beta.

    In float32 or wider: a bfloat16 1 + scale would keep only eight bits.
    """
    reduced = _arguments.reduced_axes(len(shape), reduction_axes)

    def of_rank(name, value):
        if isinstance(value, (int, float)) or getattr(value, "shape", None) == ():
            value = jnp.full(shape[-1:], value, jnp.result_type(float))
        return _operands.per_channel(name, value, shape, reduced)

    gamma, beta = of_rank("gamma", gamma), of_rank("beta", beta)
    if scale is not None:
        scale = 1 + _widened(of_rank("scale", scale))
        gamma = scale if gamma is None else scale * gamma.astype(scale.dtype)
        beta = None if beta is None else scale * beta.astype(scale.dtype)
    if shift is not None:
        shift = _widened(of_rank("shift", shift))
        beta = shift if beta is None else shift + beta.astype(shift.dtype)
    return gamma, beta


def _widened(value: Any) -> jax.Array:
    return value.astype(_problem.compute_dtype(value.dtype))


def instance_axes(
    shape: tuple[int, ...],
    feature_axes: int | Sequence[int],
    reduction_axes: int | Sequence[int] | None,
) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """The axes of an instance norm's features, and the group norm that it is.

    As in Flax the first axis is the batch, and every other axis that holds no features
    is reduced, unless ``reduction_axes`` says which are.

    Returns:
      The axes of the features, ascending; the number of groups; the reduction axes.
    """
    last = len(shape) - 1
    features = _arguments.axes_of("feature_axes", len(shape), feature_axes)
    if reduction_axes is not None:
        if features != (last,):
            raise ValueError(
                said(
                    "give either `feature_axes` or `reduction_axes`; got "
                    f"`feature_axes`={feature_axes} and "
                    f"`reduction_axes`={reduction_axes}."
                )
            )
        reduced = _arguments.reduced_axes(len(shape), reduction_axes)
    elif 0 in features:
        raise ValueError(
            said(
                "`feature_axes` must not include the batch axis, `x`'s first; got "
                f"{feature_axes} for `x` of rank {len(shape)}. Name `reduction_axes` "
                "for one example without a batch axis."
            )
        )
    else:
        reduced = tuple(axis for axis in range(1, last) if axis not in features)
    groups = shape[-1] if last in features else 1
    return features, groups, (*reduced, last)


def over_features(
    parameter: jax.Array | None, shape: tuple[int, ...], features: tuple[int, ...]
) -> jax.Array | None:
    """A parameter of feature axes with x's rank, and x's channels last."""
    if parameter is None or features == (len(shape) - 1,):
        return parameter
    spread = parameter.reshape(
        tuple(size if axis in features else 1 for axis, size in enumerate(shape))
    )
    return jnp.broadcast_to(spread, (*spread.shape[:-1], shape[-1]))
