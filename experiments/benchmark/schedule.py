r"""The TPU kernels' own schedules: what a block costs to compute, and to move.

    JAX_PLATFORMS=cpu python -m experiments.benchmark.schedule --target v5e \
        --layers sd15_64_320 --record experiments/benchmark/results/schedule.json

compiles the kernels without a device and reads the instructions that libtpu dumps. A
bundle is what a core issues in a cycle, if it waits for nothing. While a block is
computed the next is fetched and the last is written back, so a kernel is bound by
memory if the bundles of a block take less than its bytes. The clock at which both take
the same time is bundles over seconds of moving; a core that is faster hides the
computing.

``--page docs/kernels.md`` writes the record's table between the page's markers
``schedule``, and needs no compiler.
"""

import argparse
import dataclasses
import json
import math
import os
import pathlib
import re
import tempfile
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
from jax.experimental.pallas import tpu as pltpu

from experiments import markers, records
from experiments.benchmark import layers, targets
from flax_gn import _problem
from flax_gn._pallas._tpu import backward, forward
from flax_gn._pallas._tpu import tiles as cuts

RECORD = pathlib.Path(__file__).parent / "results" / "schedule.json"
TPUS = [name for name, target in targets.TARGETS.items() if target.platform == "tpu"]

# Each kernel, the arrays of x's size that it reads, and its coefficients per channel;
# it writes one array.
_KERNELS = {"forward": (forward.forward, 1, 3), "backward": (backward.backward, 2, 5)}

# The activations that kernels fuse, few channels and many, read once and twice.
LAYERS = (
    "r50_b1_gn3",
    "r50_b4_gn3",
    "sd15_64_320",
    "sdxl_32_2560",
    "sdxl_vae_512_256",
    "fpn_p5",
)

_BUNDLE = re.compile(r"^ *(?:0x[0-9a-f]+|0) +(?:[A-Z]{2})? *: +(>*) *\{")
_LOOP_END = re.compile(r"scmp\.ge\.s32\.totalorder %\w+, (\d+) /\* loop exit test")


@dataclasses.dataclass(frozen=True)
class Row:
    """A kernel in numbers.

    Attributes:
      target: the device, a name in `targets.TARGETS`.
      layer: its id in the table of layers.
      activation: the name of the activation that is fused, or "none".
      dtype: of x.
      name: the pass, "forward" or "backward".
      reads: how often a block is fetched.
      blocks: how many there are.
      bundles: for a block, over all its reads; with what runs in some steps only
        counted in each.
      bytes: moved for a block, with padding, over all its reads.
    """

    target: str
    layer: str
    activation: str
    dtype: str
    name: str
    reads: int
    blocks: int
    bundles: int
    bytes: int

    @property
    def key(self) -> tuple[str, ...]:
        """What tells kernels apart."""
        return self.target, self.layer, self.activation, self.dtype, self.name


def count(text: str, trips: Sequence[int], *, steps: int) -> list[int]:
    """Bundles in a step of the grid: outside of its loops, and in those of each depth.

    The grid itself is the outermost loop of the text, if it has several steps. What
    lies outside of it runs once in the whole kernel and is left out. A bundle in a loop
    counts once for each trip.

    Args:
      text: the compiler's ``final_bundles``.
      trips: of the loops in a step, from the outermost.
      steps: of the grid, on a core.

    Raises:
      ValueError: the text has other loops.
    """
    bundles = [0] * (len(trips) + 1)
    outside = 0 if steps == 1 else 1
    depth = -1
    for line in text.splitlines():
        if match := _BUNDLE.match(line):
            depth = len(match[1]) - outside
            if depth > len(trips):
                raise ValueError(f"expected loops {trips}, found one within: {line}")
            if depth >= 0:
                bundles[depth] += math.prod(trips[:depth])
        end = _LOOP_END.search(line) if depth > 0 else None
        if end is not None and int(end[1]) != trips[depth - 1]:
            raise ValueError(f"expected loops {trips}, found {end[1]} trips")
    return bundles


def measure(target: str, layer: layers.Layer, dtype: str, name: str) -> Row:
    """Compiles a kernel and reads its schedule; `dumping` is entered before jax runs.

    Arguments as in `Row`.
    """
    device = targets.devices(target)[0]
    kernel, read, rows = _KERNELS[name]
    size = jnp.dtype(dtype).itemsize
    with targets.compiling_for(device):
        vmem = pltpu.get_tpu_info().vmem_capacity_bytes
        tiles = cuts.choose(layer.shape, layer.groups, (size,) * (read + 1), vmem)
        n, *_, c = tiles.shape
        x = jax.ShapeDtypeStruct(tiles.shape, dtype)
        coefficients = jax.ShapeDtypeStruct((n, rows, c), jnp.float32)

        def run(*arrays):
            problem, _ = _problem.canonicalise(
                arrays[0], None, None, layer.groups, activation=layer.activation
            )
            return kernel(problem, tiles, *arrays)

        arguments = targets.on(device, (*(x,) * read, coefficients))
        jax.jit(run).lower(*arguments).compile()
    folder = pathlib.Path(os.environ["LIBTPU_INIT_ARGS"].split()[0].partition("=")[2])
    (dump,) = folder.glob(f"*-group_norm_{name}*-final_bundles.txt")
    text = dump.read_text()
    for path in folder.iterdir():
        path.unlink()
    reads = min(tiles.blocks, 2)
    block = cuts.block_bytes(
        (tiles.positions, *tiles.shape[2:-1], tiles.channels), size
    )
    blocks = n // tiles.samples * (c // tiles.channels) * tiles.blocks
    steps = -(-blocks * reads // device.num_cores)
    in_step, *in_loops = count(text, _trips(tiles), steps=steps)
    return Row(
        target,
        layer.id,
        layer.activation_name,
        dtype,
        name,
        reads,
        blocks,
        reads * in_step + sum(in_loops),
        tiles.samples * block * (reads * read + 1),
    )


def _trips(tiles: cuts.Tiles) -> list[int]:
    """The loops in a step; the compiler leaves out those that it knows to run once."""
    trips = [tiles.samples] if tiles.samples > 1 else []
    chunks = min(tiles.positions, tiles.shape[1]) // tiles.chunk
    if chunks > 1 or tiles.blocks > 1:
        trips.append(chunks)
    return trips


def bandwidth(target: str) -> int:
    """Bytes per second of a core, as Pallas knows the chip."""
    with targets.compiling_for(targets.devices(target)[0]):
        return pltpu.get_tpu_info().mem_bw_bytes_per_second


def load(path: pathlib.Path) -> tuple[dict, dict[str, int], list[Row]]:
    """A record: its stamp, the bandwidth of each target, the rows."""
    if not path.exists():
        return {}, {}, []
    record = json.loads(path.read_text())
    return record["stamp"], record["bandwidth"], [Row(**r) for r in record["rows"]]


def save(path: pathlib.Path, new: Iterable[Row]) -> None:
    """Adds rows to a record, in place of those of the same kernels."""
    _, speeds, rows = load(path)
    made = {row.key: row for row in rows} | {row.key: row for row in new}
    speeds |= {row.target: bandwidth(row.target) for row in new}
    record = {
        "stamp": records.stamp("libtpu"),
        "bandwidth": speeds,
        "rows": [dataclasses.asdict(row) for row in made.values()],
    }
    records.write(path, record)


def table(rows: Iterable[Row], speeds: dict[str, int]) -> str:
    """A table in Markdown with a line for each kernel."""
    head = ["device", "layer", "activation", "dtype", "pass", "reads", "blocks"]
    head += ["bundles of a block", "its bytes, µs", "both alike at, GHz"]
    lines = [head, ["---"] * 5 + ["---:"] * 5]
    for row in rows:
        seconds = row.bytes / speeds[row.target]
        start = row.target, row.layer, row.activation, row.dtype, row.name
        cells = f"{row.reads}", f"{row.blocks}", f"{row.bundles:,}"
        alike = row.bundles / seconds / 1e9
        lines.append([*start, *cells, f"{seconds * 1e6:.1f}", f"{alike:.2f}"])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def text(path: pathlib.Path = RECORD) -> str:
    """The record's table, and which compiler made it."""
    stamp, speeds, rows = load(path)
    versions = stamp["versions"]
    known = ", ".join(f"{name} {speed / 1e9:.0f}" for name, speed in speeds.items())
    return (
        f"{table(rows, speeds)}\n\nBandwidth of a core, GB/s: {known}. libtpu "
        f"{versions['libtpu']}, jax {versions['jax']}; {stamp['date'][:10]}; "
        "`python -m experiments.benchmark.schedule`."
    )


def main() -> None:
    """Compiles kernels into a record, or writes the record's table into a page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", nargs="+", default=TPUS, choices=TPUS)
    parser.add_argument("--layers", nargs="+", default=LAYERS)
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16"])
    parser.add_argument("--record", type=pathlib.Path, default=RECORD)
    parser.add_argument("--page", type=pathlib.Path)
    args = parser.parse_args()
    if args.page is not None:
        markers.replace(args.page, "schedule", text(args.record))
        return
    jax.config.update("jax_platforms", "cpu")
    with tempfile.TemporaryDirectory() as folder:
        # Read when libtpu loads, no earlier and no later.
        os.environ["LIBTPU_INIT_ARGS"] = (
            f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true"
        )
        for target in args.target:
            for layer in args.layers:
                made = [
                    measure(target, layers.load()[layer], dtype, name)
                    for dtype in args.dtypes
                    for name in _KERNELS
                ]
                save(args.record, made)
                print(*made, sep="\n", flush=True)


if __name__ == "__main__":
    main()
