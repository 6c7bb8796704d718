r"""What a norm costs before it runs: whole networks, traced, lowered and compiled.

    JAX_PLATFORMS=cpu python -m experiments.benchmark.cost
    JAX_PLATFORMS=cpu python -m experiments.benchmark.cost --targets cpu \
        --networks stack --rounds 5 --record runs/cost.json

measures `flax_gn.linen.GroupNorm` and `flax.linen.GroupNorm` in the same networks, for
a CPU and, where their compilers are installed (`make compiled`), for accelerators that
need not be there. The two take turns in one process, every time with jax's caches
cleared and without a compilation cache. Times are those that all threads of this
process spent on a processor, and the assemblers that a compiler starts, which other
work on the machine changes less than it changes the time that passes.

Rows go to results/cost.json as they come, in place of those of the same programs, and
`python -m experiments.benchmark --tables docs/performance.md` makes a table of them.
"""

import argparse
import dataclasses
import functools
import gc
import json
import pathlib
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from experiments import records
from experiments.benchmark import cost_networks, program, targets

# For each target, the dtype that networks run in there.
TARGETS = {"cpu": "float32", "h100": "bfloat16", "v5e": "bfloat16"}
MODES = ("forward", "value_and_grad")
STAGES = ("trace", "lower", "compile")
RECORD = pathlib.Path(__file__).parent / "results" / "cost.json"


@dataclasses.dataclass(frozen=True)
class Size:
    """How long a program is at each stage.

    Attributes:
      equations: of the jaxpr, those of functions that it calls counted once.
      stablehlo: lines of it.
      hlo: instructions of the optimised HLO, bodies of fusions included.
      kernels: pieces of work for the device, as in `program`.
    """

    equations: int
    stablehlo: int
    hlo: int
    kernels: int


@dataclasses.dataclass(frozen=True)
class Row:
    """One network with one norm, on its way to one target.

    Attributes:
      network: a name in `cost_networks.NETWORKS`.
      norms: how many norms it has.
      shapes: how many shapes they are given.
      target: a name in `TARGETS`.
      dtype: of the computation.
      mode: a name in `MODES`.
      norm: a name in `cost_networks.NORMS`.
      size: of the program.
      trace: seconds of processors in each round.
      lower: likewise.
      compile: likewise.
    """

    network: str
    norms: int
    shapes: int
    target: str
    dtype: str
    mode: str
    norm: str
    size: Size
    trace: list[float]
    lower: list[float]
    compile: list[float]


def measure(
    name: str,
    target: str,
    *,
    rounds: int,
    networks: dict[str, cost_networks.Network] = cost_networks.NETWORKS,
) -> Iterator[list[Row]]:
    """Rows of both norms, side by side, for one mode after the other.

    Args:
      name: of the network.
      target: a name in `TARGETS`.
      rounds: how often to do everything.
      networks: by name.
    """
    network = networks[name]
    shapes = network.norms()
    for mode in MODES:
        functions = {
            norm: _function(network, norm, TARGETS[target], mode)
            for norm in cost_networks.NORMS
        }
        arguments = _arguments(network, target)
        spent = {norm: {stage: [] for stage in STAGES} for norm in functions}
        sizes = {}
        for turn in range(rounds):
            for norm in list(functions)[:: -1 if turn % 2 else 1]:
                seconds, *made = stages(functions[norm], arguments, target)
                for stage, each in zip(STAGES, seconds, strict=True):
                    spent[norm][stage].append(round(each, 4))
                sizes[norm] = sizes.get(norm) or _size(*made)
        yield [
            Row(
                network=name,
                norms=len(shapes),
                shapes=len(set(shapes)),
                target=target,
                dtype=TARGETS[target],
                mode=mode,
                norm=norm,
                size=sizes[norm],
                **spent[norm],
            )
            for norm in functions
        ]


def stages(
    function: Callable[..., Any], arguments: Sequence[Any], target: str
) -> tuple[tuple[float, ...], Any, Any, Any]:
    """Traces, lowers and compiles; the seconds of each, and what came of it."""
    jax.clear_caches()
    gc.collect()
    with targets.compiling_for(_device(target)):
        began = _spent()
        traced = jax.jit(function).trace(*arguments)
        then = _spent()
        lowered = traced.lower()
        later = _spent()
        compiled = lowered.compile()
        seconds = then - began, later - then, _spent() - later
    return seconds, traced, lowered, compiled


def size(function: Callable[..., Any], *arguments: Any) -> Size:
    """How long a function's program for a CPU is."""
    return _size(*stages(function, arguments, "cpu")[1:])


def _spent() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _device(target: str) -> Any:
    return jax.devices("cpu")[0] if target == "cpu" else targets.devices(target)[0]


def _function(
    network: cost_networks.Network, norm: str, dtype: str, mode: str
) -> Callable[..., Any]:
    model = network.make(cost_networks.NORMS[norm], jnp.dtype(dtype))

    def forward(variables, inputs):
        return model.apply(variables, inputs)

    def loss(variables, inputs):
        y = jnp.asarray(forward(variables, inputs))
        return jnp.mean(jnp.square(y.astype(jnp.float32)))

    return forward if mode == "forward" else jax.value_and_grad(loss)


def _arguments(network: cost_networks.Network, target: str) -> Sequence[Any]:
    """The variables, which are the same for both norms, and the inputs."""
    model = network.make(cost_networks.NORMS["flax.linen"], jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), network.inputs)
    return targets.on(_device(target), (variables, network.inputs))


def _size(traced: Any, lowered: Any, compiled: Any) -> Size:
    made = program.read(compiled)
    return Size(
        equations=_equations(traced.jaxpr.jaxpr, set()),
        stablehlo=len(lowered.as_text().splitlines()),
        hlo=made.instructions,
        kernels=len(made.kernels),
    )


def _equations(jaxpr: Any, seen: set[Any]) -> int:
    if jaxpr in seen:
        return 0
    seen.add(jaxpr)
    return len(jaxpr.eqns) + sum(
        _equations(inner, seen)
        for equation in jaxpr.eqns
        for inner in core.jaxprs_in_params(equation.params)
    )


def load(path: pathlib.Path) -> tuple[dict[str, Any], list[Row]]:
    """A record's stamps, one for each target, and its rows; empty if there is none."""
    if not path.exists():
        return {}, []
    return parse(json.loads(path.read_text()))


def parse(record: dict[str, Any]) -> tuple[dict[str, Any], list[Row]]:
    """Likewise, of a record that is read already."""
    rows = [Row(**row | {"size": Size(**row["size"])}) for row in record["rows"]]
    return record["stamps"], rows


def save(path: pathlib.Path, new: Sequence[Row], stamp: dict[str, Any]) -> None:
    """Adds rows to a record, in place of those of the same programs."""
    stamps, rows = load(path)
    stamps |= {row.target: stamp for row in new}
    kept = {_place(row): row for row in (*rows, *new)}
    ordered = [dataclasses.asdict(kept[place]) for place in sorted(kept)]
    records.write(path, {"stamps": stamps, "rows": ordered})


def _place(row: Row) -> tuple[Any, ...]:
    """Rows go by target, network, mode and norm."""
    return (
        list(TARGETS).index(row.target),
        list(cost_networks.NETWORKS).index(row.network),
        MODES.index(row.mode),
        list(cost_networks.NORMS).index(row.norm),
    )


def line(row: Row) -> str:
    """A row as text."""
    times = (
        f"{stage} {statistics.median(getattr(row, stage)):.2f} s" for stage in STAGES
    )
    sizes = (f"{name} {n}" for name, n in dataclasses.asdict(row.size).items())
    head = f"{row.target:4} {row.network:8} {row.mode:14} {row.norm:10}"
    return "  ".join([head, *times, *sizes])


def _warm_up(target: str) -> None:
    """Loads what the first program of a process has to wait for."""
    one = functools.partial(cost_networks.Stack, widths=(32,), sizes=1)
    network = cost_networks.Network("", one, (1, 8, 8, 3))
    for _ in measure("tiny", target, rounds=1, networks={"tiny": network}):
        pass


def main(argv: list[str] | None = None) -> None:
    """Measures, and writes the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = list(cost_networks.NETWORKS)
    parser.add_argument("--networks", nargs="+", default=names, choices=names)
    parser.add_argument(
        "--targets",
        nargs="+",
        default=[name for name in TARGETS if name == "cpu" or targets.installed(name)],
        choices=TARGETS,
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--record", type=pathlib.Path, default=RECORD)
    args = parser.parse_args(argv)
    targets.prepare()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)
    # Once, since the record that it writes changes the checkout.
    stamp = records.stamp("libtpu", "jax-cuda13-plugin")
    for target in args.targets:
        _warm_up(target)
        for name in args.networks:
            for rows in measure(name, target, rounds=args.rounds):
                print("\n".join(map(line, rows)), flush=True)
                save(args.record, rows, stamp)
    print(f"wrote {args.record}")


if __name__ == "__main__":
    main()
