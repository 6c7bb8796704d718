"""The forward kernels for a TPU.

One read. A block holds all positions of one or several samples, for whole groups of
channels; while one is normalised the next is fetched and the last written back::

    HBM    x ━━━━━┓                                         ┏━━━━━▶ y
    VMEM          ┗▶ slab ──▶ sums ──▶ mean, var ──▶ slab ━━┛
                       └──────────── again ───────────▲

Two reads. A slab that does not fit goes through VMEM in blocks, twice; the sums stay.
The second time the blocks come in reverse, so that the one still there is not fetched
again, and nothing is written before::

    HBM    x ━━ 0, 1, ..., T-1 ━━┓   ┏━━━━━ T-1 (kept), ..., 1, 0 ━━▶ y
    VMEM                         ┗▶ sums ──▶ mean, var

Groups that devices split are summed by one kernel, and normalised by another once the
devices have shared their sums.

All sum x - pilot and its square, with a pilot per group that is one of its values;
see `flax_gn._statistics`.
"""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from flax_gn._pallas._activation import apply
from flax_gn._pallas._tpu import block as blocks
from flax_gn._pallas._tpu import grid, words
from flax_gn._pallas._tpu.grid import Pass
from flax_gn._pallas._tpu.tiles import Tiles
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
      x: in the view of the cut.
      coefficients: (N, 3, C), float32: pilot, gamma, beta.

    Returns:
      y, in x's shape, and (N, 2, C), float32: mean - pilot and variance, each repeated
      for the channels of its group.
    """

    def kernel(x, coefficients, y, statistics, sums):
        block, read = grid.place(tiles)
        _sum(problem, tiles, block, read, x, coefficients, statistics, sums)
        _write(problem, tiles, block, read, x, coefficients, statistics, y)

    y, statistics = grid.call(
        kernel, "group_norm_forward", tiles, (x,), (coefficients,), problem.out_dtype
    )
    return y, statistics


def statistics(
    problem: Problem, tiles: Tiles, x: jax.Array, coefficients: jax.Array
) -> jax.Array:
    """The second result of `forward`, alone."""

    def kernel(x, coefficients, statistics, sums):
        block, read = grid.place(tiles, Pass.SUMS)
        _sum(problem, tiles, block, read, x, coefficients, statistics, sums)

    name = "group_norm_statistics"
    (result,) = grid.call(
        kernel, name, tiles, (x,), (coefficients,), None, what=Pass.SUMS
    )
    return result


def normalise(
    problem: Problem,
    tiles: Tiles,
    x: jax.Array,
    coefficients: jax.Array,
    statistics: jax.Array,
) -> jax.Array:
    """The first result of `forward`, from the second."""

    def kernel(x, coefficients, statistics, y):
        block, read = grid.place(tiles, Pass.WRITES)
        _write(problem, tiles, block, read, x, coefficients, statistics, y)

    rows = coefficients, statistics
    name = "group_norm_normalise"
    (y,) = grid.call(
        kernel, name, tiles, (x,), rows, problem.out_dtype, what=Pass.WRITES
    )
    return y


def _sum(problem, tiles, block, read, x, coefficients, statistics, sums):
    @read.first
    def _():
        sums[...] = jnp.zeros(sums.shape, sums.dtype)

    @read.sums
    def _():
        @grid.for_each_sample(tiles)
        def _(sample):
            pilot = blocks.across(tiles, coefficients[sample, pl.ds(PILOT, 1)])

            def terms(chunk):
                centred = x[sample, chunk].astype(jnp.float32) - pilot
                return centred, centred * centred

            blocks.add_sums(tiles, block, terms, sums, sample)

    @read.turn
    def _():
        size = tiles.shape[-1] // problem.groups
        count = size * grid.positions(tiles)
        shift = blocks.to_groups(sums[SHIFT], size) / count
        square = blocks.to_groups(sums[VAR], size) / count
        sums[SHIFT] = shift
        sums[VAR] = jnp.maximum(square - shift * shift, 0)

        @grid.for_each_sample(tiles)
        def _(sample):
            for i in (SHIFT, VAR):
                row = sums[i, pl.ds(sample, 1), : tiles.channels]
                statistics[sample, pl.ds(i, 1)] = row


def _write(problem, tiles, block, read, x, coefficients, statistics, y):
    @read.writes
    def _():
        @grid.for_each_sample(tiles)
        def _(sample):
            pilot, gamma, beta = (
                coefficients[sample, pl.ds(i, 1)] for i in (PILOT, GAMMA, BETA)
            )
            shift, var = (statistics[sample, pl.ds(i, 1)] for i in (SHIFT, VAR))
            slope = jax.lax.rsqrt(var + problem.eps) * gamma
            constant = beta - shift * slope
            pilot, slope, constant = (
                blocks.across(tiles, row) for row in (pilot, slope, constant)
            )

            def write(chunk):
                z = (x[sample, chunk].astype(jnp.float32) - pilot) * slope + constant
                z = apply(problem.activation, words.of(x.dtype), z)
                y[sample, chunk] = z.astype(y.dtype)

            blocks.for_each_chunk(tiles, block, write)
