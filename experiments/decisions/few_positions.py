r"""How is the backward pass to sum on a GPU where positions are few?

    JAX_PLATFORMS=cpu python -m experiments.decisions.few_positions \
        > experiments/decisions/few_positions.md
    python -m experiments.decisions.few_positions --time \
        --dtypes bfloat16 --together 2 4 --samples 2 4 16 \
        > experiments/decisions/few_positions_time.md

One way sums per sample and channel: float32 sums that are written once and read twice,
for the sums per group and for the gradients of gamma and beta: 24 bytes. The other way
sums neighbouring channels of a group before it writes anything, and forms the gradients
of gamma and beta in the pass that writes dx, for blocks of samples. How many channels
go together and how many samples make a block decides what XLA stores in between, so all
of a grid are compiled, for an H100, and the programs that move least and most are told.
Takes six minutes. With ``--time`` they run on the GPU that is there.
"""

import argparse
import contextlib
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp

from experiments import records
from experiments.benchmark import compiled, layers, measure, program, targets, timing

LAYERS = ("r50_b4_gn2", "r50_b4_gn3", "box_head", "sd15_8_2560", "diffusion_policy")
EPS = 1e-5


def other_way(layer: layers.Layer, together: int, samples: int) -> Callable[..., Any]:
    """dx, dgamma and dbeta of x, dy, gamma, beta and the statistics of each group.

    Args:
      layer: whose backward pass it is.
      together: neighbouring channels that are added before positions are summed.
      samples: in a block, for the gradients of gamma and beta.
    """
    n, *spatial, channels = layer.shape
    positions = tuple(range(1, len(layer.shape) - 1))
    size = channels // layer.groups

    def to_channels(v):
        wide = jnp.broadcast_to(v[..., None], (*v.shape, size))
        return wide.reshape(*v.shape[:-1], channels)

    def of_element(x, dy, gamma, beta, mean, rstd):
        x_hat = (x.astype(jnp.float32) - to_channels(mean)) * to_channels(rstd)
        dz = dy.astype(jnp.float32)
        if layer.activation is not None:
            z = x_hat * gamma + beta
            dz = jax.vjp(layer.activation, z)[1](dz)[0]
        return x_hat, dz

    def backward(x, dy, gamma, beta, mean, var):
        rstd = jax.lax.rsqrt(var + EPS)
        x, dy = jax.lax.optimization_barrier((x, dy))
        x_hat, dz = of_element(x, dy, gamma, beta, mean, rstd)
        # Two sums as one of complex numbers share their pass over x and dy.
        both = jax.lax.complex(gamma * dz, gamma * dz * x_hat)
        parts = both.reshape(*both.shape[:-1], channels // together, together)
        added = sum(parts[..., i] for i in range(1, together)) + parts[..., 0]
        summed = jnp.sum(added, positions, keepdims=True)
        summed = jax.lax.optimization_barrier(summed)
        totals = summed.reshape(*summed.shape[:-1], layer.groups, -1).sum(-1)
        means = totals / (math.prod(spatial) * size)

        x, dy = jax.lax.optimization_barrier((x, dy))
        x_hat, dz = of_element(x, dy, gamma, beta, mean, rstd)
        slope = to_channels(rstd)
        mean_dz, mean_x_hat = (to_channels(f(means)) for f in (jnp.real, jnp.imag))
        dx = slope * (gamma * dz - mean_dz - x_hat * mean_x_hat)
        # Coefficients of its own, so that XLA forms dz once more and does not store it.
        again = jax.lax.optimization_barrier((gamma, beta, mean, rstd))
        x_hat, dz = of_element(x, dy, *again)
        both = jax.lax.complex(dz, dz * x_hat)
        blocks = both.reshape(n // samples, samples, *both.shape[1:])
        sums = jnp.sum(blocks, tuple(range(1, blocks.ndim - 1)))
        total = jnp.sum(jax.lax.optimization_barrier(sums), 0)
        return dx.astype(x.dtype), jnp.imag(total), jnp.real(total)

    return backward


def moved(layer: layers.Layer, dtype: Any, together: int, samples: int) -> float:
    """Bytes that `other_way` moves on an H100, over those of x."""
    x, dy, *rest = jax.eval_shape(functools.partial(_arguments, layer, dtype))
    arguments = targets.on(targets.devices("h100")[0], (x, dy, *rest))
    run = jax.jit(other_way(layer, together, samples))
    return program.read(run.lower(*arguments).compile()).moved / (
        x.size * x.dtype.itemsize
    )


def _arguments(layer, dtype):
    """x, dy, gamma, beta, mean and variance."""
    x, gamma, beta, dy = measure.inputs(layer, dtype, "step")
    ones = (1,) * (len(layer.shape) - 1)
    gamma, beta = (v.reshape(*ones, -1) for v in (gamma, beta))
    statistics = layer.shape[0], *ones[1:], layer.groups
    return x, dy, gamma, beta, jnp.zeros(statistics), jnp.ones(statistics)


@contextlib.contextmanager
def _sums_per_channel():
    """Group norm without the other way."""
    jax.clear_caches()
    with mock.patch("flax_gn._xla._few_for_a_gpu", return_value=False):
        yield
    jax.clear_caches()


def _bytes_row(layer, dtype, grid):
    """With sums per channel; by the size of its parts, the other way."""
    with _sums_per_channel():
        row = compiled.measure("h100", layer, "xla", dtype, "backward")
    tried = {each: moved(layer, compiled.DTYPES[dtype], *each) for each in grid}
    return row.moved / row.x, tried


def _time_row(layer, dtype, grid):
    """The same in microseconds, on the GPU that is there."""
    arguments = jax.jit(functools.partial(_arguments, layer, dtype))()
    x, dy, gamma, beta, *_ = arguments
    norm = compiled.NORMS["xla"](layer)
    gamma, beta = gamma.reshape(-1), beta.reshape(-1)
    with _sums_per_channel():
        _, vjp = jax.jit(functools.partial(jax.vjp, norm))(x, gamma, beta)
        backward = jax.jit(lambda vjp, dy: vjp(dy)).lower(vjp, dy).compile()
    runs = {"sums": timing.on_device(backward, (vjp, dy))}
    for each in grid:
        run = jax.jit(other_way(layer, *each)).lower(*arguments).compile()
        runs[str(each)] = timing.on_device(run, arguments)
    for run in runs.values():
        run()
    times = timing.run_rounds(runs, seconds=0, least=15)
    taken = {name: 1e6 * each.median for name, each in times.items()}
    return taken["sums"], {each: taken[str(each)] for each in grid}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", nargs="+", default=LAYERS)
    parser.add_argument("--dtypes", nargs="+", default=list(compiled.DTYPES))
    parser.add_argument("--together", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--samples", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--time", action="store_true", help="on the GPU that is there")
    args = parser.parse_args()
    print("| layer | dtype | sums per channel | least | channels, samples | most |")
    print("|---|---|---:|---:|---:|---:|")
    for name, dtype in itertools.product(args.layers, args.dtypes):
        layer = layers.load()[name]
        grid = [
            (together, samples)
            for together, samples in itertools.product(args.together, args.samples)
            if layer.shape[-1] // layer.groups % together == 0
            and layer.shape[0] % samples == 0
        ]
        row = _time_row if args.time else _bytes_row
        per_channel, tried = row(layer, dtype, grid)
        best = min(tried, key=lambda each: tried[each])
        numbers = per_channel, tried[best], max(tried.values())
        now, least, most = (f"{number:.2f}" for number in numbers)
        sizes = f"{best[0]}, {best[1]}"
        print(f"| {name} | {dtype} | {now} | {least} | {sizes} | {most} |", flush=True)
    stamp = records.stamp()
    what = "Bytes moved backward over the bytes of x, by the compiler for the H100"
    if args.time:
        what = f"Microseconds backward, {stamp['device']}"
    print(f"\n{what}; jax {jax.__version__}, {stamp['date'][:10]}.")


if __name__ == "__main__":
    main()
