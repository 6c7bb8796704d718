"""How the op is split over the devices of a mesh with explicit axes.

There the type of x says at trace time which devices hold which part of it. Where they
split groups, the op runs under `jax.shard_map`, and its statistics are shared by one
all-reduce, that of `axis_name`. Where every group is whole on its device nothing is
shared, and the program for one device is the right one as it is.

With automatic axes it is XLA that splits the program, after tracing.
"""

import dataclasses
import math
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from flax_gn._problem import Cut, Problem


def over_devices(
    run: Callable[..., Any],
    problem: Problem,
    x: jax.Array,
    *others: jax.Array | None,
    per_group: bool = False,
    always: bool = False,
) -> Any:
    """``run(problem, x, *others)`` of the whole arrays.

    Args:
      run: a function of a problem and of as much of the arrays as a device holds. It
        returns an array of x's shape, or, with ``per_group``, a pytree of arrays of
        shape (*kept, 1, ..., G).
      problem: that of the whole arrays.
      x: decides how everything is split.
      *others: arrays that broadcast to x, or None.
      per_group: what ``run`` returns.
      always: whether ``run`` needs a device's part, rather than the program for one
        device, even where nothing is shared. A kernel does.
    """
    mesh, spec = jax.typeof(x).sharding.mesh, jax.typeof(x).sharding.spec
    if AxisType.Explicit not in mesh.axis_types:
        return run(problem, x, *others)
    specs = [_spec_as(x, other) for other in others]
    others = tuple(
        None if other is None else jax.sharding.reshard(other, NamedSharding(mesh, s))
        for other, s in zip(others, specs, strict=True)
    )
    shards = math.prod(mesh.shape[name] for name in _names(spec[-1]))
    local = _on_a_device(problem, x.shape[-1], spec, shards)
    if local.axis_name == problem.axis_name and not always:
        return run(problem, x, *others)
    out = spec
    if per_group:
        out = PartitionSpec(
            *(None if axis in problem.reduced else s for axis, s in enumerate(spec))
        )
    mapped = jax.shard_map(
        partial(run, local),
        mesh=mesh,
        in_specs=(spec, *specs),
        out_specs=out,
        axis_names={name for names in spec for name in _names(names)},
    )(x, *others)
    if not per_group or local.cut is None:
        return mapped
    # Every part of a group returned what holds for the group.
    whole, parts = NamedSharding(mesh, PartitionSpec(*out[:-1], None)), local.cut.parts
    return jax.tree.map(lambda a: jax.sharding.reshard(a, whole)[..., ::parts], mapped)


def _on_a_device(problem, channels, spec, shards) -> Problem:
    """The problem for one device's part of x: fewer groups, and who shares them."""
    names = () if problem.axis_name is None else _names(problem.axis_name)
    for axis in problem.reduced:
        names += _names(spec[axis])
    size = channels // problem.groups
    part = math.gcd(size, channels // shards)
    cut = None
    if part < size:
        cut = Cut(axis_name=_names(spec[-1]), parts=size // part)
        names += cut.axis_name
    return dataclasses.replace(
        problem,
        groups=channels // shards // part,
        axis_name=names or None,
        cut=cut,
    )


def _names(axis: Any) -> tuple[Hashable, ...]:
    """The mesh axes in an entry of a PartitionSpec."""
    if axis is None:
        return ()
    return axis if isinstance(axis, tuple) else (axis,)


def _spec_as(x: jax.Array, other: jax.Array | None) -> PartitionSpec:
    """How an array that broadcasts to x is split where x is."""
    if other is None:
        return PartitionSpec()
    return PartitionSpec(
        *(
            names if size == full else None
            for names, size, full in zip(
                jax.typeof(x).sharding.spec, other.shape, x.shape, strict=True
            )
        )
    )
