"""Kernels run on the platform they are for, and nowhere else."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from flax_gn import _sharding
from flax_gn._pallas._interpret import interpreted


def only_on(kernels: Any, kernel: Callable[..., Any], *args: jax.Array) -> Any:
    """``kernel(*args)``, in a program for its platform; or interpreted, if asked for.

    Args:
      kernels: the `_op.Kernels` that it is one of.
      kernel: to run.
      *args: its arguments.

    Raises:
      NotImplementedError: when it is lowered for another platform, or in a program
        that XLA splits over devices, where nobody knows how to split a kernel. What a
        program is compiled for is known no earlier: it may be another machine's.
    """
    if interpreted.value is None:
        said = kernels.name, kernels.platform, kernels.machines
        args = (_only_on_p.bind(args[0], said=said), *args[1:])
    return kernel(*args)


_only_on_p = Primitive("group_norm_only_on")


@_only_on_p.def_abstract_eval
def _abstract_eval(x, *, said):
    del said
    return x


def _lower(context, x, *, said):
    name, platform, machines = said
    lowered_for = context.platforms or context.module_context.platforms
    if any(lowered != platform for lowered in lowered_for):
        raise NotImplementedError(
            f'group_norm: implementation="{name}" runs on {machines}; got a program '
            f'for {", ".join(lowered_for)}. Leave implementation out, or pass "xla", '
            "which runs everywhere."
        )
    if _sharding.xla_may_split_it(context):
        raise NotImplementedError(
            f'group_norm: implementation="{name}" cannot be automatically partitioned '
            "over devices. Give the mesh explicit axes, call it in a shard_map, or "
            "leave implementation out."
        )
    return [x]


def _batch(args, dims, *, said):
    return _only_on_p.bind(*args, said=said), dims[0]


batching.primitive_batchers[_only_on_p] = _batch
mlir.register_lowering(_only_on_p, _lower)
