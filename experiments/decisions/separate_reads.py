"""What do the barriers gain that keep XLA on a CPU from storing shared work?

    JAX_PLATFORMS=cpu python -m experiments.decisions.separate_reads \
        > experiments/decisions/separate_reads.md

times group norm as it is and with `flax_gn._statistics.separate_reads` handing its
argument on without barriers, both in turns within each round, and prints how many times
faster the barriers make it and how much scratch memory each takes. Takes two minutes.
"""

import argparse
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax

from experiments import records
from experiments.benchmark import contenders, layers, measure, program, timing
from experiments.benchmark.__main__ import QUICK_LAYERS

_READS = "flax_gn._statistics.separate_reads"


def compiled(layer: layers.Layer, dtype: str, mode: str) -> tuple[Any, Any]:
    """The program of a layer, and its arguments."""
    contender = contenders.ALL["flax_gn xla"]
    function = contender.norm(layer) if mode == "forward" else contender.step(layer)
    arguments = measure.inputs(layer, dtype, mode)
    return jax.jit(function).lower(*arguments).compile(), arguments


def compare(layer: layers.Layer, dtype: str, mode: str, seconds: float) -> list[float]:
    """The ratio of times, and scratch memory over |x| with and without barriers."""
    with_barriers, arguments = compiled(layer, dtype, mode)
    with mock.patch(_READS, lambda values, number: [values] * number):
        jax.clear_caches()
        without, _ = compiled(layer, dtype, mode)
    jax.clear_caches()
    runs: dict[str, Callable[[], float]] = {}
    scratch = []
    for name, run in (("with", with_barriers), ("without", without)):
        jax.block_until_ready(run(*arguments))
        runs[name] = timing.on_host(run, arguments)
        scratch.append(program.read(run).temporaries / arguments[0].nbytes)
    times = timing.run_rounds(runs, seconds=seconds)
    return [times["with"].times_faster_than(times["without"]), *scratch]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.decisions.separate_reads"
    )
    parser.add_argument("--layers", nargs="+", default=QUICK_LAYERS)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each row")
    args = parser.parse_args()
    print("| layer | dtype | pass | times faster | scratch | scratch without |")
    print("|---|---|---|---:|---:|---:|")
    for name in args.layers:
        layer = layers.load()[name]
        for dtype in measure.DTYPES:
            for mode in measure.MODES:
                ratio, own, other = compare(layer, dtype, mode, args.seconds)
                print(
                    f"| {name} | {dtype} | {mode} | {ratio:.2f} "
                    f"| {own:.2f} | {other:.2f} |",
                    flush=True,
                )
    made = records.stamp()
    print(
        f"\nScratch memory over the bytes of x. {made['processor']}, "
        f"jax {made['versions']['jax']}, {made['date'][:10]}."
    )


if __name__ == "__main__":
    main()
