"""The forward kernels for a GPU.

One read. A thread block keeps all positions of a sample, for whole groups of channels,
in shared memory::

    HBM      x ━━━━━┓                                         ┏━━━━━▶ y
    shared          ┗▶ slab ──▶ sums ──▶ mean, var ──▶ slab ━━┛
                         └──────────── again ───────────▲

A slab that one block does not hold is shared by a cluster of them, each with some of
the positions. What they summed they tell each other (`cluster`)::

    HBM      x ━━ part 0 ━━┓           ┏━━ partial sums ━━▶ all blocks    ┏━▶ y, part 0
    shared                 ┗▶ part ──▶ sums     mean, var ──▶ part ━━━━━━━┛

Two reads. A slab that does not fit there either goes through shared memory in chunks,
twice, by two kernels; several blocks share the positions, and what each summed is added
up between the kernels, in the order of the blocks::

    HBM      x ━━ 0, 1, ... ━━┓         ┏━▶ sums ━━▶ mean, var ━━━━━━━┓
    shared                    ┗▶ sums ━━┛                             ▼
    HBM      x ━━ 0, 1, ... ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━▶ chunk ━━▶ y

All sum x - pilot and its square, with a pilot per group that is one of its values;
see `flax_gn._statistics`.
"""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from flax_gn._pallas._activation import apply
from flax_gn._pallas._gpu import block, cluster, grid
from flax_gn._pallas._gpu.tiles import Tiles
from flax_gn._pallas._gpu.words import WORDS
from flax_gn._problem import Problem

PILOT, GAMMA, BETA = range(3)
SHIFT, VAR = range(2)


def forward(
    problem: Problem, tiles: Tiles, x: jax.Array, coefficients: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The normalised, activated x, and its statistics.

    Args:
      problem: groups, eps, activation and out_dtype are used.
      tiles: the cut.
      x: (N, L, C).
      coefficients: (N, 3, C), float32: pilot, gamma, beta.

    Returns:
      y, in x's shape, and (N, 2, C), float32: mean - pilot and variance, each repeated
      for the channels of its group.
    """
    if not tiles.kept:
        rows = statistics(problem, tiles, x, coefficients)
        return normalise(problem, tiles, x, coefficients, rows), rows

    def kernel(*refs, **scratch):
        _keep(problem, tiles, *refs, **scratch)

    n, _, c = tiles.shape
    slab = tiles.per_block * tiles.chunk, tiles.channels
    scratch = {
        "slab": plgpu.SMEM(slab, x.dtype),
        "chunk_is_here": plgpu.Barrier(num_barriers=tiles.per_block),
        **grid.coefficients_scratch(tiles, 3),
        **cluster.scratch(tiles),
        **block.spread_scratch(tiles),
    }
    if problem.out_dtype != x.dtype:
        scratch["result"] = plgpu.SMEM(slab, problem.out_dtype)
    results = [(tiles.shape, problem.out_dtype), ((n, 2, c), jnp.float32)]
    y, rows, *_ = grid.call(
        kernel,
        "group_norm_forward",
        tiles,
        (x, coefficients),
        results + cluster.results(tiles),
        scratch,
    )
    return y, rows


def _keep(
    problem,
    tiles,
    x,
    coefficients,
    y,
    statistics,
    *partial,
    slab,
    chunk_is_here,
    rows,
    rows_are_here,
    ring,
    result=None,
    **told,
):
    sample, channels, share = place = grid.place(tiles)
    here, first = grid.chunks_here(tiles, share), share * tiles.per_block
    result = slab if result is None else result
    grid.fetch_slab(tiles, share, x.at[sample, :, channels], slab, chunk_is_here)
    grid.fetch_coefficients(
        tiles,
        [coefficients.at[sample, i, channels] for i in range(3)],
        rows,
        rows_are_here,
    )
    plgpu.barrier_wait(rows_are_here)
    pilot = block.load(tiles, rows.at[PILOT])

    def add(chunk, before):
        plgpu.barrier_wait(chunk_is_here.at[chunk])
        values = slab.at[pl.ds(chunk * tiles.chunk, tiles.chunk)]

        def terms(step):
            centred = block.load(tiles, values.at[step]) - pilot
            return centred, centred * centred

        return block.sums(tiles, first + chunk, terms, before)

    zeros = block.zeros(tiles), block.zeros(tiles)
    added = jax.lax.fori_loop(0, here, add, zeros)
    sums = (
        block.over_rows(tiles, added[0], ring),
        block.over_rows(tiles, added[1], ring),
    )
    sums = cluster.total(tiles, place, sums, ring, *partial, **told)

    size = tiles.shape[-1] // problem.groups
    count = size * tiles.shape[1]
    shift, square = (
        block.over_groups(tiles, total, size, ring) / count for total in sums
    )
    var = jnp.maximum(square - shift * shift, 0.0)

    def store():
        for i, value in ((SHIFT, shift), (VAR, var)):
            block.store_row(tiles, value, ring, statistics.at[sample, i, channels])

    cluster.once(tiles, share, store)
    slope = jax.lax.rsqrt(block.to_steps(tiles, var, ring) + problem.eps)
    slope *= block.load(tiles, rows.at[GAMMA])
    constant = block.load(tiles, rows.at[BETA])
    constant -= block.to_steps(tiles, shift, ring) * slope
    write = _writer(problem, tiles, (pilot, slope, constant))

    @pl.loop(0, here)
    def _(chunk):
        at = pl.ds(chunk * tiles.chunk, tiles.chunk)
        write(first + chunk, slab.at[at], result.at[at])
        plgpu.commit_smem()
        grid.store_chunk(tiles, first + chunk, result.at[at], y.at[sample, :, channels])

    plgpu.wait_smem_to_gmem(0)


def statistics(
    problem: Problem, tiles: Tiles, x: jax.Array, coefficients: jax.Array
) -> jax.Array:
    """The second result of `forward`, alone."""

    def kernel(x, coefficients, partial, *, rows, rows_are_here, ring):
        sample, channels, share = grid.place(tiles)
        source = coefficients.at[sample, PILOT, channels]
        grid.fetch_coefficients(tiles, [source], rows, rows_are_here)
        plgpu.barrier_wait(rows_are_here)
        pilot = block.load(tiles, rows.at[0])

        def add(chunk, x, before):
            def terms(step):
                centred = block.load(tiles, x.at[step]) - pilot
                return centred, centred * centred

            return block.sums(tiles, chunk, terms, before)

        totals = grid.stream_sums(tiles, sample, channels, share, add, x)
        for i, total in enumerate(totals):
            value = block.over_rows(tiles, total, ring)
            block.store_row(tiles, value, ring, partial.at[sample, share, i, channels])

    sums = grid.call(
        kernel,
        "group_norm_statistics",
        tiles,
        (x, coefficients),
        [grid.partial_sums(tiles)],
        {**grid.coefficients_scratch(tiles, 1), **block.spread_scratch(tiles)},
    )[0]
    size = tiles.shape[-1] // problem.groups
    shift, square = (
        block.group_totals(jnp.sum(sums[:, :, i], 1), size) / (size * tiles.shape[1])
        for i in (SHIFT, VAR)
    )
    return jnp.stack([shift, jnp.maximum(square - shift * shift, 0)], 1)


def normalise(
    problem: Problem,
    tiles: Tiles,
    x: jax.Array,
    coefficients: jax.Array,
    statistics: jax.Array,
) -> jax.Array:
    """The first result of `forward`, from the second."""
    slope = jax.lax.rsqrt(statistics[:, VAR] + problem.eps) * coefficients[:, GAMMA]
    constant = coefficients[:, BETA] - statistics[:, SHIFT] * slope
    lines = jnp.stack([coefficients[:, PILOT], slope, constant], 1)

    def kernel(x, lines, y, *, rows, rows_are_here, buffers):
        sample, channels, share = grid.place(tiles)
        sources = [lines.at[sample, i, channels] for i in range(3)]
        grid.fetch_coefficients(tiles, sources, rows, rows_are_here)
        plgpu.barrier_wait(rows_are_here)
        line = tuple(block.load(tiles, rows.at[i]) for i in range(3))
        write = _writer(problem, tiles, line)
        grid.stream(tiles, sample, channels, share, write, (x,), y, buffers)

    return grid.call(
        kernel,
        "group_norm_normalise",
        tiles,
        (x, lines),
        [(tiles.shape, problem.out_dtype)],
        {
            **grid.coefficients_scratch(tiles, 3),
            **grid.stream_scratch(tiles, problem.out_dtype),
        },
    )[0]


def _writer(problem, tiles, line):
    """(chunk's index, x, y) -> None: writes a chunk of y."""
    pilot, slope, constant = line

    def write(chunk, x, y):
        def step(at):
            z = (block.load(tiles, x.at[at]) - pilot) * slope + constant
            y[at] = apply(problem.activation, WORDS, z).astype(y.dtype)

        block.for_each_step(tiles, chunk, step)

    return write
