r"""What does it cost to normalise a channels-first array through jnp.moveaxis?

    JAX_PLATFORMS=cpu python -m experiments.decisions.channels_first \
        > experiments/decisions/channels_first.md

compares group norm on an array that lies channels last with the same call on one that
lies channels first, moved there and back: bytes moved forward over the bytes of x in
the device's memory, as the compilers plan it, and the time on this machine's CPU. The
two are timed in turns, so that a busy machine slows both, and the median of the ratios
is printed. Takes two minutes.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

import flax_gn
from experiments import records
from experiments.benchmark import layers, program, targets


def channels_last(layer: layers.Layer) -> Callable[[jax.Array], jax.Array]:
    """The norm on (N, *spatial, C)."""
    return lambda x: flax_gn.group_norm(x, groups=layer.groups)


def channels_first(layer: layers.Layer) -> Callable[[jax.Array], jax.Array]:
    """The norm on (N, C, *spatial)."""

    def run(x):
        y = flax_gn.group_norm(jnp.moveaxis(x, 1, -1), groups=layer.groups)
        return jnp.moveaxis(y, -1, 1)

    return run


def shapes(layer: layers.Layer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shape channels last and channels first."""
    batch, *spatial, channels = layer.shape
    return layer.shape, (batch, channels, *spatial)


def moved(layer: layers.Layer, target: str) -> list[float]:
    """Bytes moved over the bytes of x, channels last and first."""
    device = targets.devices(target)[0]
    ratios = []
    for run, shape in zip((channels_last, channels_first), shapes(layer), strict=True):
        x = targets.on(device, jax.ShapeDtypeStruct(shape, jnp.bfloat16))
        copy, norm = (
            program.read(jax.jit(f).lower(x).compile()) for f in (jnp.copy, run(layer))
        )
        ratios.append(norm.moved / copy.outputs)
    return ratios


def time_ratio(layer: layers.Layer, repeats: int) -> float:
    """Time channels first over time channels last, on this machine, in float32."""
    runs = []
    for run, shape in zip((channels_last, channels_first), shapes(layer), strict=True):
        x = jax.random.normal(jax.random.key(0), shape)
        compiled = jax.jit(run(layer)).lower(x).compile()
        compiled(x).block_until_ready()
        runs.append((compiled, x))
    ratios = []
    for _ in range(repeats):
        seconds = []
        for compiled, x in runs:
            began = time.perf_counter()
            compiled(x).block_until_ready()
            seconds.append(time.perf_counter() - began)
        ratios.append(seconds[1] / seconds[0])
    return statistics.median(ratios)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", nargs="+", default=["h100", "v5e"])
    parser.add_argument("--layers", nargs="+", default=["r50_b1_gn3", "sd15_64_320"])
    parser.add_argument("--repeats", type=int, default=21)
    args = parser.parse_args()
    print("| layer | where | channels last | channels first | ratio |")
    print("|---|---|---:|---:|---:|")
    for layer in (layers.load()[name] for name in args.layers):
        for target in args.target:
            last, first = moved(layer, target)
            ratio = first / last
            print(
                f"| {layer.id} | {target}, bytes moved over bytes of x | {last:.2f} | "
                f"{first:.2f} | {ratio:.2f} |",
                flush=True,
            )
        ratio = time_ratio(layer, args.repeats)
        print(f"| {layer.id} | CPU, time | 1 | {ratio:.2f} | {ratio:.2f} |", flush=True)
    stamp = records.stamp()
    print(
        f"\n{stamp['date']}, commit {stamp['commit']}, jax {jax.__version__}, "
        f"{stamp['processor']}; bfloat16 for bytes, float32 for time."
    )


if __name__ == "__main__":
    main()
