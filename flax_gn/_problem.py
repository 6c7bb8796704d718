"""The checked, canonical problem: what to normalise, over which axes, and how.

Everything behind this module assumes that its input was made here, so a bad call gets
no further. The checks themselves are in `_arguments`, `_operands` and `_activations`.
"""

import dataclasses
from collections.abc import Hashable, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
from jax import export
from jax.typing import ArrayLike, DTypeLike

from flax_gn import _activations, _arguments, _operands
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
    x = _operands.floating_array("x", x)
    _operands.check_rank(x.shape)
    reduced = _arguments.reduced_axes(x.ndim, reduction_axes)
    out_dtype = x.dtype if dtype is None else _arguments.floating_dtype("dtype", dtype)
    wide = compute_dtype(x.dtype, out_dtype)
    problem = Problem(
        groups=_arguments.number_of_groups(groups, group_size, x.shape[-1]),
        reduced=reduced,
        eps=_arguments.eps(eps, wide),
        activation=_activations.checked(activation),
        axis_name=_arguments.axis_name(axis_name),
        axis_index_groups=_arguments.axis_index_groups(axis_index_groups, axis_name),
        compute_dtype=wide,
        out_dtype=out_dtype,
    )
    operands = Operands(
        x=x,
        gamma=_operands.per_channel("gamma", gamma, x.shape, reduced),
        beta=_operands.per_channel("beta", beta, x.shape, reduced),
        mask=_operands.mask(mask, x.shape),
    )
    return problem, operands


def compute_dtype(*dtypes: DTypeLike) -> jnp.dtype:
    """float64 where one of them is, float32 for everything narrower."""
    wide = any(dtype == jnp.float64 for dtype in dtypes)
    return jnp.dtype(jnp.float64 if wide else jnp.float32)


def is_known(*sizes: Any) -> bool:
    """Whether none of the sizes is left open, as `jax.export` allows."""
    return not any(export.is_symbolic_dim(size) for size in sizes)


def is_positive(size: Any) -> bool:
    """Whether a size is at least 1: of open ones such as (l - 3) // 2 nobody knows."""
    return bool(jax.core.max_dim(size, 1) == size)
