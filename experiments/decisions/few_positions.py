r"""Is a GPU to sum channels or rows of channels where positions are few?

    JAX_PLATFORMS=cpu python -m experiments.decisions.few_positions \
        > experiments/decisions/few_positions.md
    python -m experiments.decisions.few_positions --time

Sums per channel are float32 numbers for every sample and channel, written once and read
again; rows of all channels of a group leave less to write. Backward the gradients of
gamma and beta have to come from somewhere all the same: where rows are summed, from the
pass that writes dx, in blocks of samples. Both are compiled for an H100, with blocks of
several sizes, and what moves is told. It takes five minutes. With ``--time`` they run
on the GPU that is there.
"""

import argparse
import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax

from experiments import records
from experiments.benchmark import compiled, layers, measure, timing

LAYERS = (
    "diffusion_policy",
    "r50_b4_gn2",
    "r50_b4_gn3",
    "box_head",
    "sd15_8_2560",
    "r50_b3_gn2",
    "sd15_16_2560",
    "sd15_32_1920",
    "sdxl_64_1920",
)
BLOCKS = (1, 2, 4, 8, 16)
# Of the positions of a channel; up to it the library sums rows in both passes.
FEW_BYTES = 256


@contextlib.contextmanager
def summing(*, rows: bool, block: int | None = None) -> Iterator[None]:
    """Whether both passes sum rows, and how many samples make a block."""
    values: dict[str, Any] = {"serve_backward": rows}
    if not rows:
        values["number"] = None
    if block is not None:
        values["_samples_in_block"] = block
    jax.clear_caches()
    with contextlib.ExitStack() as patches:
        for name, value in values.items():
            patch = mock.patch(f"flax_gn._xla._gpu_rows.{name}", return_value=value)
            patches.enter_context(patch)
        yield
    jax.clear_caches()


def moved(layer: layers.Layer, dtype: str, name: str) -> float:
    """Bytes over those of x that a pass moves on an H100."""
    row = compiled.measure("h100", layer, "xla", dtype, name)
    return row.moved / row.x


def microseconds(layer: layers.Layer, dtype: str, name: str) -> float:
    """What a pass takes on the GPU that is there."""
    x, gamma, beta, dy = measure.inputs(layer, dtype, "step")
    norm: Any = compiled.NORMS["xla"](layer)
    arguments: tuple[Any, ...] = (x, gamma, beta)
    if name == "backward":
        _, vjp = jax.jit(functools.partial(jax.vjp, norm))(*arguments)
        norm, arguments = (lambda vjp, dy: vjp(dy)), (vjp, dy)
    run = timing.on_device(jax.jit(norm).lower(*arguments).compile(), arguments)
    run()
    times = timing.run_rounds({name: run}, seconds=0, least=15)
    return 1e6 * times[name].median


def both_ways(measured: Callable[..., float]) -> None:
    """The table of channels and rows."""
    print("| layer | positions | dtype | forward, channels | rows |", end="")
    print(" backward, channels | rows |\n|---|---:|---|---:|---:|---:|---:|")
    for name in LAYERS:
        layer = layers.load()[name]
        for dtype in compiled.DTYPES:
            cells = [name, str(math.prod(layer.shape[1:-1])), dtype]
            for part in ("forward", "backward"):
                for rows in (False, True):
                    with summing(rows=rows):
                        cells.append(f"{measured(layer, dtype, part):.2f}")
            print("|", " | ".join(cells), "|", flush=True)


def by_block(measured: Callable[..., float]) -> None:
    """The table of sizes of blocks, backward."""
    print("| layer | dtype |", *(f"{block} |" for block in BLOCKS))
    print("|---|---|" + "---:|" * len(BLOCKS))
    for name in LAYERS:
        layer = layers.load()[name]
        size = math.prod(layer.shape[1:-1])
        for dtype in compiled.DTYPES:
            if size * compiled.DTYPES[dtype].dtype.itemsize > FEW_BYTES:
                continue
            cells = [name, dtype]
            for block in BLOCKS:
                if layer.shape[0] % block:
                    cells.append("")
                    continue
                with summing(rows=True, block=block):
                    cells.append(f"{measured(layer, dtype, 'backward'):.2f}")
            print("|", " | ".join(cells), "|", flush=True)


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--time", action="store_true", help="on the GPU that is there")
    measured = microseconds if parser.parse_args().time else moved
    stamp = records.stamp()
    what = "Bytes moved over the bytes of x, by the compiler for the H100"
    if measured is microseconds:
        what = f"Microseconds, {stamp['device']}"
    both_ways(measured)
    print(f"\n{what}; jax {jax.__version__}, {stamp['date'][:10]}.")
    print("\nBackward with rows, by samples in a block:\n")
    by_block(measured)


if __name__ == "__main__":
    main()
