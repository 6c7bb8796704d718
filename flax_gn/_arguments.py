"""The numbers and names of a call, checked. Arrays are checked in `_operands`."""

import operator
from collections.abc import Hashable, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.typing import DTypeLike

from flax_gn._words import said


def floating_dtype(name: str, dtype: DTypeLike) -> jnp.dtype:
    """A dtype of floating-point numbers that JAX holds them in."""
    try:
        floating = jnp.issubdtype(dtype, jnp.floating) and _is_held(jnp.dtype(dtype))
    except TypeError:  # not a dtype at all
        floating = False
    if not floating:
        raise TypeError(
            said(
                f"`{name}` must be floating-point (float32, bfloat16, float16 or "
                f"float64); got {getattr(dtype, '__name__', dtype)}.{_fix(name, dtype)}"
            )
        )
    return jax.dtypes.canonicalize_dtype(dtype)


def _is_held(dtype: np.dtype) -> bool:
    """Whether JAX has arrays of a floating dtype: none wider, nor of swapped bytes."""
    return dtype.isnative and dtype.itemsize <= 8


def _fix(name, dtype) -> str:
    if name == "dtype":
        return ""
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return (
            f" Give the real and the imaginary part of `{name}` each its own call, or "
            "make them channels: a cast would drop one."
        )
    return f" Cast `{name}` first, with its astype."


def integer(name: str, value: Any) -> int:
    """A Python int that is known at trace time."""
    if not isinstance(value, bool):
        try:
            return operator.index(value)
        except TypeError:
            pass
    got = "a traced value" if isinstance(value, jax.core.Tracer) else repr(value)
    raise TypeError(
        said(
            f"`{name}` must be an int that is known at trace time; got {got}. "
            "Pass a Python int and, under jit, make it a static argument."
        )
    )


def number_of_groups(groups: Any, group_size: Any, channels: int) -> int:
    """The number of groups of a channel axis, from either of the two ways to say it."""
    if export.is_symbolic_dim(channels):
        raise ValueError(
            said(
                "`x` must have a fixed number of channels; got the symbolic size "
                f"{channels} in its last axis. Export with that axis fixed."
            )
        )
    if channels == 0:
        raise ValueError(
            said(
                "`x` must have at least one channel; got channel size 0 in its last "
                "axis."
            )
        )
    if (groups is None) == (group_size is None):
        raise ValueError(
            said(
                "give either `groups` or `group_size`, not both and not neither; got "
                f"`groups`={groups} and `group_size`={group_size}."
            )
        )
    name = "groups" if group_size is None else "group_size"
    number = integer(name, groups if group_size is None else group_size)
    if number < 1:
        raise ValueError(said(f"`{name}` must be at least 1; got {number}."))
    if channels % number:
        raise ValueError(
            said(
                f"`{name}`={number} must divide the number of channels, the size of "
                f"`x`'s last axis; got {channels} channels. Divisors: "
                f"{_divisors(channels)}. `x` is channels-last; move a channels-first "
                "axis with jnp.moveaxis(x, 1, -1)."
            )
        )
    return number if group_size is None else channels // number


def _divisors(n: int) -> str:
    divisors = [d for d in range(1, n + 1) if n % d == 0] if n <= 1 << 20 else []
    return ", ".join(map(str, divisors))


def eps(value: Any, dtype: jnp.dtype) -> float:
    """What is added to the variance: nothing, or a normal number of its dtype."""
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            said(
                "`eps` must be known at trace time; got a traced value. "
                "Pass a Python float and, under jit, make it a static argument."
            )
        )
    try:
        if isinstance(value, (bool, np.bool_, str, bytes)):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(
            said(f"`eps` must be a float, 0 or positive; got {value!r}.")
        ) from None
    # Below the smallest normal number it is flushed to 0, unasked.
    finfo = jnp.finfo(dtype)
    if number and not float(finfo.tiny) <= number <= float(finfo.max):
        raise ValueError(
            said(
                f"`eps` must be 0, or positive and finite in {dtype.name}, the dtype "
                f"of the statistics; got {number}. The paper uses 1e-5."
            )
        )
    return abs(number)  # no -0.0


def reduced_axes(
    ndim: int, reduction_axes: int | Sequence[int] | None
) -> tuple[int, ...]:
    """The axes that share statistics, ascending, without the channel axis."""
    if reduction_axes is None:
        return tuple(range(1, ndim - 1))
    axes = axes_of("reduction_axes", ndim, reduction_axes)
    if ndim - 1 not in axes:
        raise ValueError(
            said(
                "`reduction_axes` must include the channel axis, which is `x`'s last "
                f"axis ({ndim - 1} or -1); got {axes}."
            )
        )
    return axes[:-1]


def axes_of(name: str, ndim: int, given: Any) -> tuple[int, ...]:
    """Axes of an array of ``ndim`` axes, not negative and ascending.

    Given as one or, as in Flax, as whatever can be iterated: a set, or an array.
    """
    try:
        given = tuple(given)
    except TypeError:
        given = (given,)
    axes = [integer(name, axis) for axis in given]
    if any(not -ndim <= axis < ndim for axis in axes):
        raise ValueError(
            said(
                f"`{name}` must lie in [-{ndim}, {ndim}) for `x` of rank {ndim}; got "
                f"{tuple(axes)}."
            )
        )
    axes = sorted(axis % ndim for axis in axes)
    if len(set(axes)) != len(axes):
        raise ValueError(
            said(f"`{name}` must name each axis once; got {given} for rank {ndim}.")
        )
    return tuple(axes)


def axis_name(name: Any) -> Hashable | None:
    """The name or names of mapped axes, which are there; None for none."""
    name = tuple(name) if isinstance(name, list) else name
    if name is None or (isinstance(name, tuple) and not name):
        return None
    try:
        jax.lax.axis_size(name)
    except (NameError, TypeError, ValueError) as error:
        raise ValueError(
            said(
                "`axis_name` must be the name, or names, of axes mapped by pmap, "
                f"shard_map or vmap around this call; got {name!r}."
            )
        ) from error
    return name


def axis_index_groups(
    groups: Sequence[Sequence[int]] | None, name: Hashable | None
) -> tuple[tuple[int, ...], ...] | None:
    """Which devices along the mapped axes share statistics."""
    if groups is None:
        return None
    if name is None:
        raise ValueError(
            said(
                "`axis_index_groups` names devices along `axis_name`, but "
                "`axis_name` is None. Pass `axis_name` too."
            )
        )
    try:
        return tuple(
            tuple(integer("axis_index_groups", index) for index in group)
            for group in groups
        )
    except TypeError:
        raise TypeError(
            said(
                "`axis_index_groups` must be a list of lists of ints, the devices "
                f"that share statistics; got {groups!r}."
            )
        ) from None
