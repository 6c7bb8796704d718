"""Statistics and sums that devices share, each by one all-reduce."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from flax_gn._problem import Problem
from flax_gn._xla._arithmetic import Moments


def merge_over_devices(problem, local: Moments) -> Moments:
    """Merges per-device moments as Chan, Golub and LeVeque do, in one all-reduce.

    Every device writes its four small arrays into its own row and the rows are summed.
    Summing moments about a common pilot would need a second all-reduce to agree on
    the pilot, and sums about zero lose the digits this module is for.
    """
    devices = jnp.arange(jax.lax.axis_size(problem.axis_name))
    own = devices == jax.lax.axis_index(problem.axis_name)
    # Added up rather than stacked, which jax refuses under vmap if the mapped axis is
    # split over devices and one of the arrays is not mapped.
    rows = sum(
        jnp.where(
            jnp.expand_dims(own[:, None] & at, range(2, 2 + value.ndim)),
            value[None, None],
            0,
        )
        for at, value in zip(jnp.eye(4, dtype=bool)[:, None], local, strict=True)
    )
    rows = _psum(problem, rows)
    if problem.cut is not None:
        rows = _parts_of_own_groups(problem, rows)
    pilots, shifts, variances, counts = (rows[:, i] for i in range(4))
    fullest = jnp.argmax(counts, 0, keepdims=True)
    pilot = jnp.take_along_axis(pilots, fullest, 0)
    count = jnp.maximum(jnp.sum(counts, 0, keepdims=True), 1)
    # A device that keeps nothing has pilot 0, which may be far enough to overflow.
    means = jnp.where(counts > 0, (pilots - pilot) + shifts, 0)
    shift = jnp.sum(counts * means, 0, keepdims=True) / count
    squares = counts * (variances + jnp.square(means - shift))
    var = jnp.sum(squares, 0, keepdims=True) / count
    return Moments(pilot[0], shift[0], var[0], count[0])


def sum_over_devices(problem: Problem, values: Any) -> Any:
    """One all-reduce of sums per group along the problem's axis_name, if it has one."""
    if problem.axis_name is None:
        return values
    if problem.cut is None:
        return _psum(problem, values)
    own = _own_groups(problem)
    groups = jax.lax.axis_size(problem.cut.axis_name) * own.size // problem.cut.parts
    place = own[:, None] == jnp.arange(groups)[None]

    def spread(value):
        value = value[..., None]
        at = jnp.expand_dims(place, range(value.ndim - 2))
        return jnp.sum(jnp.where(at, value, 0), -2)

    sums = _psum(problem, jax.tree.map(spread, values))
    return jax.tree.map(lambda total: jnp.take(total, own, -1), sums)


def means_over_devices(
    problem: Problem, totals: Iterable[jax.Array], number: jax.Array
) -> tuple[jax.Array, ...]:
    """Means over whole groups, from sums over what a device has of them.

    Args:
      problem: what to normalise.
      totals: sums per group.
      number: of values in each whole group.
    """
    sums = sum_over_devices(problem, tuple(totals))
    return tuple(lax.div(total, number) for total in sums)


def _psum(problem, values):
    return jax.lax.psum(
        values, problem.axis_name, axis_index_groups=problem.axis_index_groups
    )


def _own_groups(problem):
    """The group that each of this device's parts of groups belongs to."""
    first = jax.lax.axis_index(problem.cut.axis_name) * problem.groups
    return (first + jnp.arange(problem.groups)) // problem.cut.parts


def _parts_of_own_groups(problem, rows):
    """Rows per device to rows per part of this device's groups: channels' axes last.

    (devices, ..., parts on a device) to (devices along other axes * parts of a group,
    ..., parts on a device).
    """
    cut = problem.cut
    shards = jax.lax.axis_size(cut.axis_name)
    rows = jnp.moveaxis(rows.reshape(-1, shards, *rows.shape[1:]), 1, -2)
    rows = rows.reshape(*rows.shape[:-2], -1, cut.parts)
    rows = jnp.moveaxis(jnp.take(rows, _own_groups(problem), -2), -1, 1)
    return rows.reshape(-1, *rows.shape[2:])
