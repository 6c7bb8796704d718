"""The checked, canonical problem: what to normalise, over which axes, and how.

Everything behind this module assumes that its input was made here, so this is
the one place that rejects a bad call.
"""

import dataclasses
import operator
from collections.abc import Hashable, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from flax_gn import _activations
from flax_gn._activations import Activation


@dataclasses.dataclass(frozen=True)
class Cut:
    """Groups whose channels lie on several devices, in parts of equal size.

    Attributes:
      axis_name: the mapped axes that split the channels.
      parts: how many parts a group has.
    """

    axis_name: tuple[Hashable, ...]
    parts: int


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is static about one call: it keys the jit cache and the kernel choice.

    Attributes:
      groups: number of groups, G; it divides the number of channels, C. With ``cut``
        the number of parts of groups on one device.
      reduced: the axes that share statistics, ascending, without the channel axis.
      eps: added to the variance.
      activation: applied to the result, or None.
      axis_name: mapped axes whose devices share statistics, or None.
      axis_index_groups: which devices along ``axis_name`` share them, or None.
      compute_dtype: dtype of the statistics and of the arithmetic.
      out_dtype: dtype of the result.
      cut: how devices split groups, or None; the last of ``axis_name`` are its axes.
    """

    groups: int
    reduced: tuple[int, ...]
    eps: float
    activation: Activation | None
    axis_name: Hashable | None
    axis_index_groups: tuple[tuple[int, ...], ...] | None
    compute_dtype: jnp.dtype
    out_dtype: jnp.dtype
    cut: Cut | None = None


@dataclasses.dataclass(frozen=True)
class Operands:
    """The arrays of one call in canonical form.

    ``gamma`` and ``beta`` have x's rank, size 1 along the reduced axes and C last;
    ``mask`` has x's rank and broadcasts to it. Each may be None.
    """

    x: jax.Array
    gamma: jax.Array | None
    beta: jax.Array | None
    mask: jax.Array | None


def canonicalise(
    x: ArrayLike,
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    groups: int | None,
    *,
    group_size: int | None = None,
    eps: float = 1e-5,
    mask: ArrayLike | None = None,
    reduction_axes: int | Sequence[int] | None = None,
    activation: str | Activation | None = None,
    axis_name: Hashable | None = None,
    axis_index_groups: Sequence[Sequence[int]] | None = None,
    dtype: DTypeLike | None = None,
) -> tuple[Problem, Operands]:
    """Checks a call and brings it into canonical form.

    Raises:
      TypeError: an argument has the wrong type or dtype.
      ValueError: an argument has the wrong shape or value.
    """
    x = _floating_array("x", x)
    if x.ndim < 2:
        raise ValueError(
            "group_norm: x must have a batch axis and a channel axis, shape "
            f"(N, *spatial, C); got shape {x.shape}. For one example without a "
            "batch axis, pass x[None] or name reduction_axes."
        )
    channels = x.shape[-1]
    reduced = _reduced_axes(x.ndim, reduction_axes)
    kept_shape = tuple(
        size for axis, size in enumerate(x.shape[:-1]) if axis not in reduced
    )
    out_dtype = x.dtype if dtype is None else _floating_dtype("dtype", dtype)
    problem = Problem(
        groups=number_of_groups(groups, group_size, channels),
        reduced=reduced,
        eps=_eps(eps, compute_dtype(x.dtype)),
        activation=_activation(activation),
        axis_name=_axis_name(axis_name),
        axis_index_groups=_axis_index_groups(axis_index_groups, axis_name),
        compute_dtype=compute_dtype(x.dtype),
        out_dtype=out_dtype,
    )
    operands = Operands(
        x=x,
        gamma=_per_channel("gamma", gamma, channels, kept_shape, reduced),
        beta=_per_channel("beta", beta, channels, kept_shape, reduced),
        mask=_mask(mask, x.shape),
    )
    return problem, operands


def compute_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """float64 for float64 input, float32 for everything narrower."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)


def _floating_array(name: str, value: Any) -> jax.Array:
    if not (hasattr(value, "dtype") and hasattr(value, "shape")):
        raise TypeError(
            f"group_norm: {name} must be a floating-point array; got "
            f"{type(value).__name__}. Convert it with jnp.asarray first."
        )
    _floating_dtype(name, value.dtype)
    if isinstance(value, jax.Array):
        # To convert it would be an operation, at which `jax.debug_nans` looks.
        return value
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"group_norm: {name} must be a floating-point array that JAX can hold; got "
            f"{type(value).__name__} of dtype {value.dtype}."
        ) from error


def _floating_dtype(name: str, dtype: DTypeLike) -> jnp.dtype:
    try:
        floating = jnp.issubdtype(dtype, jnp.floating)
    except TypeError:  # not a dtype at all
        floating = False
    if not floating:
        fix = "" if name == "dtype" else f" Cast {name} first, with jnp.asarray."
        raise TypeError(
            f"group_norm: {name} must be floating-point (float32, bfloat16, float16 "
            f"or float64); got {getattr(dtype, '__name__', dtype)}.{fix}"
        )
    return jax.dtypes.canonicalize_dtype(dtype)


def _integer(name: str, value: Any) -> int:
    if not isinstance(value, bool):
        try:
            return operator.index(value)
        except TypeError:
            pass
    got = "a traced value" if isinstance(value, jax.core.Tracer) else repr(value)
    raise TypeError(
        f"group_norm: {name} must be an int that is known at trace time; got {got}. "
        "Pass a Python int and, under jit, make it a static argument."
    )


def is_known(*sizes: Any) -> bool:
    """Whether none of the sizes is left open, as `jax.export` allows."""
    return not any(jax.export.is_symbolic_dim(size) for size in sizes)


def is_positive(size: Any) -> bool:
    """Whether a size is known to be at least 1; of some open ones nobody can tell.

    A strided convolution without padding leaves (l - 3) // 2 + 1 of l positions.
    """
    return bool(jax.core.max_dim(size, 1) == size)


def number_of_groups(groups: Any, group_size: Any, channels: int) -> int:
    """The number of groups of a channel axis, from either of the two ways to say it."""
    if jax.export.is_symbolic_dim(channels):
        raise ValueError(
            "group_norm: x must have a fixed number of channels; got the symbolic size "
            f"{channels} in its last axis. Export with that axis fixed."
        )
    if channels == 0:
        raise ValueError(
            "group_norm: x must have at least one channel; got channel size 0 in its "
            "last axis."
        )
    if (groups is None) == (group_size is None):
        raise ValueError(
            "group_norm: give either groups or group_size, not both and not neither; "
            f"got groups={groups} and group_size={group_size}. The layers' num_groups "
            "is 32 by default: pass num_groups=None beside group_size."
        )
    name = "groups" if group_size is None else "group_size"
    number = _integer(name, groups if group_size is None else group_size)
    if number < 1:
        raise ValueError(f"group_norm: {name} must be at least 1; got {number}.")
    if channels % number:
        raise ValueError(
            f"group_norm: {name}={number} must divide the number of channels, the size "
            f"of x's last axis; got {channels} channels. Divisors: "
            f"{_divisors(channels)}. x is channels-last; move a channels-first axis "
            "with jnp.moveaxis(x, 1, -1)."
        )
    return number if group_size is None else channels // number


def _divisors(n: int) -> str:
    divisors = [d for d in range(1, n + 1) if n % d == 0] if n <= 1 << 20 else []
    return ", ".join(map(str, divisors))


def _eps(value: Any, dtype: jnp.dtype) -> float:
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            "group_norm: eps must be known at trace time; got a traced value. "
            "Pass a Python float and, under jit, make it a static argument."
        )
    try:
        if isinstance(value, (bool, np.bool_, str, bytes)):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(
            f"group_norm: eps must be a positive float; got {value!r}."
        ) from None
    # Below the smallest normal number it is flushed to 0, and 0 / 0 is NaN.
    finfo = jnp.finfo(dtype)
    if not float(finfo.tiny) <= number <= float(finfo.max):
        raise ValueError(
            f"group_norm: eps must be positive and finite in {dtype.name}, the dtype "
            f"of the statistics; got {number}. The paper uses 1e-5."
        )
    return number


def _reduced_axes(
    ndim: int, reduction_axes: int | Sequence[int] | None
) -> tuple[int, ...]:
    if reduction_axes is None:
        return tuple(range(1, ndim - 1))
    given = reduction_axes
    if not isinstance(given, Sequence):
        given = (given,)
    axes = [_integer("reduction_axes", axis) for axis in given]
    if any(not -ndim <= axis < ndim for axis in axes):
        raise ValueError(
            f"group_norm: reduction_axes must lie in [-{ndim}, {ndim}) for x of rank "
            f"{ndim}; got {tuple(axes)}."
        )
    axes = sorted(axis % ndim for axis in axes)
    if len(set(axes)) != len(axes):
        raise ValueError(
            "group_norm: reduction_axes must name each axis once; got "
            f"{tuple(given)} for x of rank {ndim}."
        )
    if ndim - 1 not in axes:
        raise ValueError(
            "group_norm: reduction_axes must include the channel axis, which is x's "
            f"last axis ({ndim - 1} or -1); got {tuple(given)}."
        )
    return tuple(axes[:-1])


@dataclasses.dataclass(frozen=True)
class _Elementwise:
    """An activation that is held to its contract when it is traced."""

    function: Activation

    def __call__(self, z: jax.Array) -> jax.Array:
        y = self.function(z)
        if (
            not isinstance(y, jax.Array)
            or y.shape != z.shape
            or not jnp.issubdtype(y.dtype, jnp.floating)
        ):
            got = jax.typeof(y) if isinstance(y, jax.Array) else type(y).__name__
            raise ValueError(
                "group_norm: activation must be elementwise: for an array of shape "
                f"{z.shape}, a floating-point array of that shape; got {got}."
            )
        return y


def _activation(activation: str | Activation | None) -> Activation | None:
    if activation is None:
        return None
    if isinstance(activation, str) and activation in _activations.BY_NAME:
        return _activations.BY_NAME[activation]
    if callable(activation) and isinstance(activation, Hashable):
        return _Elementwise(activation)
    raise ValueError(
        "group_norm: activation must be None, one of "
        f"{sorted(_activations.BY_NAME)}, or a hashable, elementwise callable; got "
        f"{activation!r}."
    )


def _axis_name(axis_name: Any) -> Hashable | None:
    name = tuple(axis_name) if isinstance(axis_name, list) else axis_name
    if name is None or (isinstance(name, tuple) and not name):
        return None
    try:
        jax.lax.axis_size(name)
    except (NameError, TypeError, ValueError) as error:
        raise ValueError(
            "group_norm: axis_name must be the name, or names, of axes mapped by pmap, "
            f"shard_map or vmap around this call; got {axis_name!r}."
        ) from error
    return name


def _axis_index_groups(
    axis_index_groups: Sequence[Sequence[int]] | None, axis_name: Hashable | None
) -> tuple[tuple[int, ...], ...] | None:
    if axis_index_groups is None:
        return None
    if axis_name is None:
        raise ValueError(
            "group_norm: axis_index_groups names devices along axis_name, but "
            "axis_name is None. Pass axis_name too."
        )
    try:
        return tuple(
            tuple(_integer("axis_index_groups", index) for index in group)
            for group in axis_index_groups
        )
    except TypeError:
        raise TypeError(
            "group_norm: axis_index_groups must be a list of lists of ints, the "
            f"devices that share statistics; got {axis_index_groups!r}."
        ) from None


def _per_channel(
    name: str,
    value: ArrayLike | None,
    channels: int,
    kept_shape: tuple[int, ...],
    reduced: tuple[int, ...],
) -> jax.Array | None:
    if value is None:
        return None
    array = _floating_array(name, value)
    shared, per_sample = (channels,), (*kept_shape, channels)
    if array.shape == shared:
        rank = len(kept_shape) + len(reduced) + 1
        return array.reshape((1,) * (rank - 1) + shared)
    if array.shape == per_sample:
        return jnp.expand_dims(array, reduced)
    raise ValueError(
        f"group_norm: {name} must have shape {shared}, one value per channel, or "
        f"{per_sample}, one row per set of statistics; got shape {array.shape}."
    )


def _mask(mask: ArrayLike | None, shape: tuple[int, ...]) -> jax.Array | None:
    if mask is None:
        return None
    if not (hasattr(mask, "dtype") and hasattr(mask, "shape")):
        raise TypeError(
            f"group_norm: mask must be a boolean array; got {type(mask).__name__}."
        )
    mask = jnp.asarray(mask)
    if mask.dtype != jnp.bool_:
        raise TypeError(
            f"group_norm: mask must be boolean, True where a position counts; got "
            f"dtype {mask.dtype.name}. Compare first, for example mask > 0."
        )
    given = mask.shape
    if mask.ndim == len(shape) - 1:
        mask = mask[..., None]
    fits = mask.ndim == len(shape) and all(
        size in (1, full) for size, full in zip(mask.shape, shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"group_norm: mask must broadcast to x's shape {shape}, axis by axis, with "
            f"or without the channel axis; got shape {given}. Add axes of size 1 "
            "where the mask does not vary."
        )
    return mask
