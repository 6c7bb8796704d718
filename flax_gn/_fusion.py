"""Where one pass over memory ends and the next begins, for XLA to keep to it.

A pass should read x itself, in its own dtype, and form from it what it needs. XLA
decides otherwise where an expression has several users or seems costly, and writes x
in float32, or centred, out in full. Barriers keep it from that:

- on a GPU, where the cost model finds the work in a sum so slow that it is done
  beforehand, and kept for the next pass,
- on a CPU, where an expression with several users is computed once and stored, while
  small arrays are formed anew for each element: nine values and their median for every
  channel of a group,
- on a TPU, where a pass keeps what the next one can form again.

tests/compiled holds the compilers for GPU and TPU to the result; for CPUs see
docs/performance.md.
"""

import contextvars
import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from flax_gn._problem import is_known

# How jax names the platforms.
_NAMES = {"cpu": "cpu", "cuda": "gpu", "rocm": "gpu", "tpu": "tpu"}

# Positions that one block of a GPU sums. With fewer, writing and reading the partial
# sums, 16 bytes per block and channel, adds over 5% to the bytes of a bfloat16 x; with
# more, XLA splits the sum in its own way.
_FEWEST, _GOOD, _MOST = 160, 256, 4096

# Positions up to which a CPU forms coefficients in the pass that uses them.
_FEW_TO_STORE = 64


def by_platform(
    *args: Any, default: Callable[..., Any], **platforms: Callable[..., Any]
) -> Any:
    """The function for the platform that the program is compiled for, of ``args``.

    That is not the platform of the process that traces it, so that `jax.export` and
    compile-only devices get theirs. All are traced, and return the same. Inside one of
    them there is nothing left to choose.

    Args:
      *args: pytrees of arrays.
      default: where no other is given.
      **platforms: by name, "cpu", "gpu" or "tpu".
    """
    here = _here.get(None) or _Here()
    if here.name is not None:
        return platforms.get(here.name, default)(*args)
    excluded = here.excluded | platforms.keys()
    functions = {
        name: _on(_Here(name), function)
        for name, function in platforms.items()
        if name not in here.excluded
    }
    if not functions:
        return default(*args)
    default = _on(_Here(excluded=excluded), default)
    functions = {
        platform: functions[name]
        for platform, name in _NAMES.items()
        if name in functions
    }
    return jax.lax.platform_dependent(*args, default=default, **functions)


@dataclasses.dataclass(frozen=True)
class _Here:
    """The platform of the branch that is traced, or those it is not for."""

    name: str | None = None
    excluded: frozenset[str] = frozenset()


# Branches of branches would be traced for nothing, half of the time of tracing.
_here: contextvars.ContextVar[_Here | None] = contextvars.ContextVar("_here")


def _on(here, function):
    def traced(*args):
        token = _here.set(here)
        try:
            return function(*args)
        finally:
            _here.reset(token)

    return traced


def barrier(values: Any, *, on: Sequence[str]) -> Any:
    """`jax.lax.optimization_barrier` in programs for some platforms, else nothing.

    `by_platform` could say it, and jax would trace a function for each platform.

    Args:
      values: a pytree of arrays.
      on: "cpu", "gpu" or "tpu".
    """
    flat, tree = jax.tree.flatten(values)
    return jax.tree.unflatten(tree, _barrier_p.bind(*flat, on=tuple(on)))


_barrier_p = Primitive("barrier_on")
_barrier_p.multiple_results = True


def _same(*values, on):
    del on
    return values


def _barrier_jvp(primals, tangents, *, on):
    tangents = [ad.instantiate_zeros(tangent) for tangent in tangents]
    return _barrier_p.bind(*primals, on=on), _barrier_p.bind(*tangents, on=on)


def _barrier_transpose(cotangents, *_, on):
    return _barrier_p.bind(*map(ad.instantiate_zeros, cotangents), on=on)


def _barrier_batch(values, dims, *, on):
    return _barrier_p.bind(*values, on=on), dims


def _lower_barrier(name, context, *values, on):
    if name not in on:
        return values
    barrier = mlir.lower_fun(
        lambda *values: jax.lax.optimization_barrier(values), multiple_results=True
    )
    return barrier(context, *values)


_barrier_p.def_impl(_same)
_barrier_p.def_abstract_eval(_same)
ad.primitive_jvps[_barrier_p] = _barrier_jvp
ad.primitive_transposes[_barrier_p] = _barrier_transpose
batching.primitive_batchers[_barrier_p] = _barrier_batch
mlir.register_lowering(_barrier_p, partial(_lower_barrier, None))
for _platform, _name in _NAMES.items():
    mlir.register_lowering(
        _barrier_p, partial(_lower_barrier, _name), platform=_platform
    )


def next_pass(axes: Sequence[int], arrays: Any, coefficients: Any) -> tuple[Any, Any]:
    """Ends a pass over memory: what follows reads ``arrays`` again.

    Args:
      axes: the reduced axes.
      arrays: pytree of x and arrays of its shape.
      coefficients: pytree of small arrays, formed beforehand. On a GPU they are formed
        in the pass itself if x has few positions, where a kernel more costs too much,
        and on a TPU the compiler decides.

    Returns:
      arrays and coefficients.
    """
    if block_of(axes, jax.tree.leaves(arrays)[0]) is not None:
        return barrier((arrays, coefficients), on=("cpu", "gpu"))
    arrays, coefficients = barrier((arrays, coefficients), on=("cpu",))
    return barrier(arrays, on=("gpu",)), coefficients


def stored(
    axes: Sequence[int], x: jax.Array, coefficients: Any, *, always: bool = False
) -> Any:
    """On a CPU, forms small arrays before the pass that uses them for each element.

    With few positions there are many of them beside x, and to form them in the pass was
    measured a tenth faster for float32; bfloat16 leaves no time for it. A loop with an
    exponential is ``always`` better off without: it is vectorised then.
    """
    sizes = [x.shape[axis] for axis in axes]
    few = is_known(*sizes) and math.prod(sizes) <= _FEW_TO_STORE
    if few and not always and x.dtype.itemsize >= 4:
        return coefficients
    return barrier(coefficients, on=("cpu",))


def read_again(*arrays: jax.Array) -> Sequence[jax.Array]:
    """On a TPU, keeps what a pass made of its arrays from being stored for the next.

    The compiler for 7x kept the activation's derivative in float32: 8|x| backward for
    (2,64,64,960) instead of 5|x|.
    """
    return barrier(arrays, on=("tpu",))


def block_of(axes: Sequence[int], value: jax.Array) -> tuple[int, int] | None:
    """`_block` of an array; no axis that an explicit mesh shards is split."""
    spec = jax.typeof(value).sharding.spec
    whole = tuple(axis for axis in axes if spec[axis] is None)
    if not is_known(*(value.shape[axis] for axis in axes)):
        return None
    return _block(tuple(axes), whole, value.shape)


@cache
def _block(
    axes: tuple[int, ...], whole: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[int, int] | None:
    """Where to split a sum over axes: one of those in whole, and its size in a block.

    A block takes all of the reduced axes after that axis, so that the split is no
    change of layout. None if no divisor of an axis makes a block of a fair size that
    leaves more than one; XLA then decides for itself.
    """
    positions = math.prod(shape[axis] for axis in axes)
    enough = max(_GOOD, min(math.isqrt(positions), _MOST))
    blocks = []
    for axis in whole:
        later = math.prod(shape[other] for other in axes if other > axis)
        blocks += (
            (later * size, axis, size)
            for size in range(1, shape[axis] + 1)
            if shape[axis] % size == 0 and _FEWEST <= later * size < positions
        )
    fitting = [block for block in blocks if block[0] >= enough]
    best = min(fitting) if fitting else max(blocks, default=None)
    return best and best[1:]
