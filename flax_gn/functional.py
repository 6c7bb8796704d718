"""Group normalisation as a pure function."""

from collections.abc import Hashable, Sequence

import jax
from jax.typing import ArrayLike, DTypeLike

from flax_gn import _dispatch, _problem


def group_norm(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    groups: int | None = None,
    *,
    group_size: int | None = None,
    eps: float = 1e-5,
    mask: ArrayLike | None = None,
    reduction_axes: int | Sequence[int] | None = None,
    activation: str | _problem.Activation | None = None,
    axis_name: Hashable | None = None,
    axis_index_groups: Sequence[Sequence[int]] | None = None,
    dtype: DTypeLike | None = None,
    implementation: str | None = None,
) -> jax.Array:
    problem, operands = _problem.canonicalise(
        x,
        gamma,
        beta,
        groups,
        group_size=group_size,
        eps=eps,
        mask=mask,
        reduction_axes=reduction_axes,
        activation=activation,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        dtype=dtype,
    )
    return _dispatch.resolve(implementation).group_norm(problem, operands)
