"""What does adding up parts of x gain on a CPU, over sums that XLA forms there?

    JAX_PLATFORMS=cpu python -m experiments.decisions.cpu_sums \
        > experiments/decisions/cpu_sums.md

times group norm as it is; leaving each sum to XLA, unlike `flax_gn._xla._cpu_sums`; and
without the barriers of `flax_gn._xla._cpu`, which keep passes over memory apart. All
three run in turns within each round. How long they take to compile is beside it, in
time of processors. Takes five minutes.
"""

import argparse
import contextlib
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax

from experiments import records
from experiments.benchmark import contenders, layers, measure, timing
from experiments.benchmark.__main__ import QUICK_LAYERS

# By the name of the variant, what takes the place of what.
_WITHOUT: dict[str, dict[str, Callable[..., Any]]] = {
    "sums by XLA": {
        "flax_gn._xla._cpu_sums.added_sums": lambda axes, function, *arrays: tuple(
            jax.numpy.sum(value, axes, keepdims=True) for value in function(*arrays)
        )
    },
    "no barriers": {
        "flax_gn._xla._cpu._stored": lambda same: same,
    },
}


def compiled(
    layer: layers.Layer, dtype: str, mode: str, replaced: dict[str, Callable[..., Any]]
) -> tuple[Any, Any, float]:
    """The program of a layer, its arguments, and what it took to compile."""
    contender = contenders.ALL["flax_gn xla"]
    function = contender.norm(layer) if mode == "forward" else contender.step(layer)
    arguments = measure.inputs(layer, dtype, mode)
    with contextlib.ExitStack() as stack:
        for name, other in replaced.items():
            stack.enter_context(mock.patch(name, other))
        jax.clear_caches()
        lowered = jax.jit(function).lower(*arguments)
        start = time.process_time()
        made = lowered.compile()
        seconds = time.process_time() - start
    jax.clear_caches()
    return made, arguments, seconds


def compare(layer: layers.Layer, dtype: str, mode: str, seconds: float) -> list[float]:
    """What the variants take over group norm as it is: to run, and to compile."""
    runs: dict[str, Callable[[], float]] = {}
    compiling: dict[str, float] = {}
    for name, replaced in {"as it is": {}, **_WITHOUT}.items():
        run, arguments, compiling[name] = compiled(layer, dtype, mode, replaced)
        jax.block_until_ready(run(*arguments))
        runs[name] = timing.on_host(run, arguments)
    times = timing.run_rounds(runs, seconds=seconds)
    return [
        ratio
        for name in _WITHOUT
        for ratio in (
            times["as it is"].times_faster_than(times[name]),
            compiling[name] / compiling["as it is"],
        )
    ]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m experiments.decisions.cpu_sums")
    parser.add_argument("--layers", nargs="+", default=QUICK_LAYERS)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each row")
    args = parser.parse_args()
    heads = " | ".join(f"{name} | to compile" for name in _WITHOUT)
    print(f"| layer | dtype | pass | {heads} |")
    print(f"|---|---|---|{'---:|---:|' * len(_WITHOUT)}")
    for name in args.layers:
        layer = layers.load()[name]
        for dtype in measure.DTYPES:
            for mode in measure.MODES:
                ratios = compare(layer, dtype, mode, args.seconds)
                cells = " | ".join(f"{ratio:.2f}" for ratio in ratios)
                print(f"| {name} | {dtype} | {mode} | {cells} |", flush=True)
    made = records.stamp()
    print(
        "\nTimes of the variant over those of group norm as it is. "
        f"{made['processor']}, jax {made['versions']['jax']}, {made['date'][:10]}."
    )


if __name__ == "__main__":
    main()
