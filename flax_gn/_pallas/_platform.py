"""Kernels run on the platform they are for, and nowhere else."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from flax_gn._pallas._interpret import interpreted


def on_tpu(kernel: Callable[..., Any], *args: jax.Array) -> Any:
    """``kernel(*args)``, in a program for a TPU; or interpreted, if that is asked for.

    Raises:
      NotImplementedError: when it is lowered for another platform. The platform that
        a program is compiled for is known no earlier: it may be another machine's.
    """
    if interpreted.value is None:
        args = (_tpu_p.bind(args[0]), *args[1:])
    return kernel(*args)


_tpu_p = Primitive("group_norm_on_tpu")


@_tpu_p.def_abstract_eval
def _abstract_eval(x):
    return x


def _elsewhere(context, x):
    del x
    platform = ", ".join(context.module_context.platforms)
    raise NotImplementedError(
        'group_norm: implementation="pallas_tpu" runs on TPUs; got a program for '
        f'{platform}. Leave implementation out, or pass "xla", which runs everywhere.'
    )


def _batch(args, dims):
    return _tpu_p.bind(*args), dims[0]


batching.primitive_batchers[_tpu_p] = _batch
mlir.register_lowering(_tpu_p, _elsewhere)
mlir.register_lowering(_tpu_p, lambda _, x: [x], platform="tpu")
