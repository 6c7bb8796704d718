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

Both sum x - pilot and its square, with a pilot per group that is one of its values;
see `flax_gn._statistics`.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from flax_gn._pallas import _block, _grid
from flax_gn._pallas._tiles import Tiles
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
    return _grid.call(
        functools.partial(_kernel, problem, tiles),
        "group_norm_forward",
        tiles,
        (x,),
        coefficients,
        problem.out_dtype,
    )


def _kernel(problem, tiles, x, coefficients, y, statistics, sums):
    block, read = _grid.place(tiles)

    @read.first
    def _():
        sums[...] = jnp.zeros(sums.shape, sums.dtype)

    @read.sums
    def _():
        @_grid.for_each_sample(tiles)
        def _(sample):
            pilot = _block.across(tiles, coefficients[sample, pl.ds(PILOT, 1)])

            def terms(chunk):
                centred = x[sample, chunk].astype(jnp.float32) - pilot
                return centred, centred * centred

            _block.add_sums(tiles, block, terms, sums, sample)

    @read.turn
    def _():
        size = tiles.shape[-1] // problem.groups
        count = size * _grid.positions(tiles)
        shift = _block.to_groups(sums[SHIFT], size) / count
        square = _block.to_groups(sums[VAR], size) / count
        sums[SHIFT] = shift
        sums[VAR] = jnp.maximum(square - shift * shift, 0)

        @_grid.for_each_sample(tiles)
        def _(sample):
            for i in (SHIFT, VAR):
                row = sums[i, pl.ds(sample, 1), : tiles.channels]
                statistics[sample, pl.ds(i, 1)] = row

    @read.writes
    def _():
        @_grid.for_each_sample(tiles)
        def _(sample):
            pilot, gamma, beta = (
                coefficients[sample, pl.ds(i, 1)] for i in (PILOT, GAMMA, BETA)
            )
            shift, var = (statistics[sample, pl.ds(i, 1)] for i in (SHIFT, VAR))
            slope = jax.lax.rsqrt(var + problem.eps) * gamma
            constant = beta - shift * slope
            pilot, slope, constant = (
                _block.across(tiles, row) for row in (pilot, slope, constant)
            )

            def write(chunk):
                z = (x[sample, chunk].astype(jnp.float32) - pilot) * slope + constant
                if problem.activation is not None:
                    z = problem.activation(z)
                y[sample, chunk] = z.astype(y.dtype)

            _block.for_each_chunk(tiles, block, write)
