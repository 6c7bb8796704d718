"""The arrays of a call, checked, and brought to the rank of x."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import export
from jax.typing import ArrayLike

from flax_gn import _arguments
from flax_gn._versions import of_jax
from flax_gn._words import said


def floating_array(name: str, value: Any) -> jax.Array:
    """An array of floating-point numbers."""
    if not (hasattr(value, "dtype") and hasattr(value, "shape")):
        raise TypeError(
            said(
                f"`{name}` must be a floating-point array; got "
                f"{type(value).__name__}. Convert it with jnp.asarray first."
            )
        )
    _arguments.floating_dtype(name, value.dtype)
    if isinstance(value, jax.Array):
        # To convert it would be an operation, at which `jax.debug_nans` looks.
        return value
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            said(
                f"`{name}` must be a floating-point array that JAX can hold; got "
                f"{type(value).__name__} of dtype {value.dtype}."
            )
        ) from error


def check_rank(shape: tuple[int, ...]) -> None:
    """Refuses an x without channels."""
    if not shape:
        raise ValueError(
            said(
                "`x` must have a batch axis and a channel axis, (N, *spatial, C), "
                "or be one vector of channels, (C,); got shape ()."
            )
        )


def per_channel(
    name: str,
    value: ArrayLike | None,
    shape: tuple[int, ...],
    reduced: tuple[int, ...],
) -> jax.Array | None:
    """Values per channel of x, or per set of statistics and channel, with x's rank.

    Args:
      name: of the argument.
      value: shape (C,) or (*kept axes, C), with or without axes of size 1 at the
        reduced axes, and with size 1 where it does not vary. None stays None.
      shape: x's.
      reduced: the axes that share statistics, but for the channels.

    Returns:
      An array with size 1 along the reduced axes, and along all others the same or
      x's size.
    """
    if value is None:
        return None
    array = floating_array(name, value)
    rank, channels = len(shape), shape[-1:]
    kept = tuple(size for axis, size in enumerate(shape[:-1]) if axis not in reduced)
    if array.shape[-1:] == channels and all(size == 1 for size in array.shape[:-1]):
        return array.reshape((1,) * (rank - 1) + channels)
    full = tuple(1 if axis in reduced else size for axis, size in enumerate(shape))
    given = array.shape
    if array.ndim == len(kept) + 1:
        array = jnp.expand_dims(array, reduced)
    if array.shape[-1:] == channels and _fits(array.shape, full):
        return array if array.shape == full else jnp.broadcast_to(array, full)
    raise ValueError(
        said(
            f"`{name}` must have shape {channels}, one value per channel, or "
            f"{(*kept, *channels)}, one row per set of statistics, with or without "
            f"axes of size 1; got shape {given}."
        )
    )


def mask(value: Any, shape: tuple[int, ...]) -> jax.Array | None:
    """A boolean mask of x's rank that broadcasts to x.

    It may be read in two ways: axis by axis without the channel axis, (N, L) for x of
    shape (N, L, C), or, as NumPy and Flax align shapes, from the last axis on, (C,) or
    (L, C). Where only one of them fits that one is meant.
    """
    if value is None:
        return None
    if not (hasattr(value, "dtype") and hasattr(value, "shape")):
        raise TypeError(said(f"`mask` must be an array; got {type(value).__name__}."))
    if any(map(export.is_symbolic_dim, value.shape)) and not of_jax.has_open_masks():
        raise NotImplementedError(
            said(
                "`mask` may have sizes that jax.export leaves open from jax 0.7.1 on; "
                f"this is jax {jax.__version__}. Update it, or export with fixed sizes."
            )
        )
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError):
        array = None
    if array is None or any(
        jnp.issubdtype(array.dtype, kind)
        for kind in (jnp.complexfloating, jax.dtypes.extended)
    ):
        raise TypeError(
            said(
                "`mask` must be boolean, or 0 where a position does not count; got "
                f"{type(value).__name__} of dtype {value.dtype}."
            )
        )
    array = array.astype(jnp.bool_)
    missing = len(shape) - array.ndim
    readings = []
    if missing == 1:
        readings.append(array[..., None])
    if missing >= 0:
        readings.append(jnp.expand_dims(array, range(missing)))
    readings = [each for each in readings if _fits(each.shape, shape)]
    if not readings:
        raise ValueError(
            said(
                f"`mask` must broadcast to `x`'s shape {shape}, axis by axis, with or "
                f"without the channel axis; got shape {array.shape}. Add axes of size "
                "1 where the mask does not vary."
            )
        )
    if len({each.shape for each in readings}) > 1:
        meanings = " or ".join(str(each.shape) for each in readings)
        raise ValueError(
            said(
                f"`mask` must have one meaning; got shape {array.shape}, which for `x` "
                f"of shape {shape} could be {meanings}: without the channel axis, or "
                "aligned from the last axis on. Add the axis of size 1 that is meant, "
                "mask[..., None] or mask[None]."
            )
        )
    return readings[0]


def _fits(shape: tuple[int, ...], full: tuple[int, ...]) -> bool:
    """Whether every axis has the full size, or size 1."""
    return len(shape) == len(full) and all(
        size in (1, whole) for size, whole in zip(shape, full, strict=True)
    )
