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

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import jax

from flax_gn._problem import is_known
from flax_gn._target import barrier

# Positions that one block of a GPU sums. With fewer, writing and reading the partial
# sums, 16 bytes per block and channel, adds over 5% to the bytes of a bfloat16 x; with
# more, XLA splits the sum in its own way.
_FEWEST, _GOOD, _MOST = 160, 256, 4096

# Positions up to which a CPU forms coefficients in the pass that uses them.
_FEW_TO_STORE = 64


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
