"""The grid that the TPU kernels share, for one read of their arrays or two."""

import enum
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from flax_gn._pallas._interpret import interpreted
from flax_gn._pallas._tpu.tiles import Tiles

When = Callable[[Callable[[], None]], Any]


class Pass(enum.Enum):
    """What a kernel does: both passes over its arrays, or one where devices split them.

    The sums of split groups have to be shared between the two.
    """

    BOTH = enum.auto()
    SUMS = enum.auto()
    WRITES = enum.auto()


class Read(NamedTuple):
    """When a kernel does what: decorators that run a function in some of its steps.

    Attributes:
      first: in a sample's first step.
      sums: in every step of the first read.
      turn: when everything is summed.
      writes: in every step of the second read.
    """

    first: When
    sums: When
    turn: When
    writes: When


def call(
    kernel: Callable[..., None],
    name: str,
    tiles: Tiles,
    arrays: tuple[jax.Array, ...],
    rows: tuple[jax.Array, ...],
    dtype: Any,
    what: Pass = Pass.BOTH,
    hold: bool = False,
) -> list[jax.Array]:
    """Runs a kernel over all blocks.

    Args:
      kernel: of references to the arrays' blocks, the rows', the results', and, if it
        sums, scratch (2, samples, lanes), and if it holds, scratch of a block's shape.
      name: the kernel's, in the compiled program.
      tiles: the cut.
      arrays: in the view of the cut; each is read in blocks.
      rows: (N, K, C), float32, of any K.
      dtype: of the array that is written.
      what: which passes.
      hold: whether the kernel holds a float32 value for every place of a block; there
        has to be room.

    Returns:
      An array of the view's shape, if the kernel writes it; and (N, 2, C), float32, if
      it sums.
    """
    n, *_, c = tiles.shape
    inner = tiles.shape[2:-1]
    shape = (tiles.samples, tiles.positions, *inner, tiles.channels)
    grid = (n // tiles.samples, c // tiles.channels)
    semantics = ("parallel", "parallel")
    if tiles.blocks > 1:
        grid += (2 if what is Pass.BOTH else 1, tiles.blocks)
        semantics += ("arbitrary", "arbitrary")

    def block(index: Callable[..., Any]) -> pl.BlockSpec:
        zeros = (0,) * len(inner)
        return pl.BlockSpec(shape, lambda n, c, *at: (n, index(*at), *zeros, c))

    def of_rows(number: int) -> pl.BlockSpec:
        return pl.BlockSpec(
            (tiles.samples, number, tiles.channels), lambda n, c, *_: (n, 0, c)
        )

    last = tiles.blocks - 1
    written = functools.partial(_written_block, last) if what is Pass.BOTH else _step
    # In a shard_map: every device has a result of its own.
    varying = jax.typeof(arrays[0]).manual_axis_type
    interpreter = interpreted.value
    results = [
        (block(written), (tiles.shape, dtype)),
        (of_rows(2), ((n, 2, c), jnp.float32)),
    ]
    if what is not Pass.BOTH:
        results = results[:1] if what is Pass.WRITES else results[1:]
    scratch = [pltpu.VMEM((2, tiles.samples, tiles.lanes), jnp.float32)]
    vmem_bytes = tiles.vmem_bytes
    if hold:
        scratch.append(pltpu.VMEM(shape, jnp.float32))
        vmem_bytes = tiles.holding_bytes
    return pl.pallas_call(
        kernel,
        grid=grid,
        in_specs=[
            *(block(functools.partial(_read_block, last)) for _ in arrays),
            *(of_rows(each.shape[1]) for each in rows),
        ],
        out_specs=[spec for spec, _ in results],
        out_shape=[
            jax.ShapeDtypeStruct(*described, manual_axis_type=varying)
            for _, described in results
        ],
        scratch_shapes=[] if what is Pass.WRITES else scratch,
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=semantics, vmem_limit_bytes=vmem_bytes
        ),
        name=name,
        interpret=False if interpreter is None else interpreter.params,
    )(*arrays, *rows)


def place(tiles: Tiles, what: Pass = Pass.BOTH) -> tuple[Any, Read]:
    """The index along L of the block of this step, and what to do in it."""
    if tiles.blocks == 1:
        return 0, _limited(Read(_run, _run, _run, _run), what)
    second, step = pl.program_id(2), pl.program_id(3)
    last = tiles.blocks - 1
    if what is not Pass.BOTH:
        read = Read(pl.when(step == 0), _run, pl.when(step == last), _run)
        return step, _limited(read, what)
    read = Read(
        first=pl.when((second == 0) & (step == 0)),
        sums=pl.when(second == 0),
        turn=pl.when((second == 0) & (step == last)),
        writes=pl.when(second == 1),
    )
    return _read_block(last, second, step), read


def for_each_sample(tiles: Tiles) -> Callable[[Callable[[Any], None]], None]:
    """Decorator: runs a function of the sample's index for all samples of a block."""

    def run(visit):
        if tiles.samples == 1:
            visit(0)
            return

        def body(sample, carry):
            visit(sample)
            return carry

        jax.lax.fori_loop(0, tiles.samples, body, ())

    return run


def positions(tiles: Tiles) -> int:
    """How many positions a channel of a sample has."""
    return math.prod(tiles.shape[1:-1])


def _read_block(last, *at):
    """0, 1, ..., last in the first read, and back in the second."""
    if not at:
        return 0
    second, step = at
    return step + second * (last - 2 * step)


def _written_block(last, *at):
    """The block that the second read starts with is held until it starts."""
    if not at:
        return 0
    second, step = at
    return last - second * step


def _step(*at):
    return at[1] if at else 0


def _limited(read, what):
    """Without the steps of the pass that is not made."""
    if what is Pass.SUMS:
        return read._replace(writes=_skip)
    if what is Pass.WRITES:
        return Read(_skip, _skip, _skip, read.writes)
    return read


def _run(function):
    function()


def _skip(function):
    del function
