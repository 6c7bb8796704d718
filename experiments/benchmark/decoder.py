"""The decoder of Stable Diffusion's autoencoder with one norm and another in it.

    JAX_PLATFORMS=cpu python -m experiments.benchmark.decoder

decodes one image on the CPU, the norms in turn, round by round, compiles the same for
an H100, which needs none, and writes results/decoder.json. "scale and shift" is no norm
but knows its statistics: what any norm costs more than that is its share of the
network. `python -m experiments.benchmark --tables docs/trained.md` brings the record
into that page.
"""

import argparse
import dataclasses
import functools
import pathlib
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from experiments import records
from experiments.benchmark import program, steps, targets
from flax_gn import models

NORMS = ("flax_gn xla", "flax.linen", "scale and shift")
SIDE = 512
RECORD = pathlib.Path(__file__).parent / "results" / "decoder.json"


@dataclasses.dataclass(frozen=True)
class Timed:
    """One norm's decoder on a CPU.

    Attributes:
      norm: a name in `NORMS`.
      seconds: of each round.
      cpu_seconds: of all cores together, which other work on the machine changes less.
      temporaries: scratch bytes of the program.
    """

    norm: str
    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    temporaries: int


@dataclasses.dataclass(frozen=True)
class Compiled:
    """One norm's decoder, compiled for a device.

    Attributes:
      target: a name in `targets.TARGETS`.
      norm: a name in `NORMS`.
      dtype: of the computation; parameters are float32.
      kernels: pieces of work for the device.
      moved: bytes read from and written to main memory.
      temporaries: scratch bytes of the program.
    """

    target: str
    norm: str
    dtype: str
    kernels: int
    moved: int
    temporaries: int


def _decoder(
    norm: str, dtype: str, widths: Sequence[int]
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Functions that make the variables for latents, and an image of both."""

    def layer(*, name: str, dtype: Any, activation: Any) -> Any:
        follows = "none" if activation is None else "silu"
        return steps.SwappedNorm(norm, activation=follows, dtype=dtype, name=name)

    model = models.AutoencoderKL(
        widths=tuple(widths), norm=layer, dtype=jnp.dtype(dtype)
    )
    init = functools.partial(model.init, jax.random.key(0), method="decode")
    return init, functools.partial(model.apply, method="decode")


def _latents(side: int, widths: Sequence[int]) -> jax.ShapeDtypeStruct:
    side //= 2 ** (len(widths) - 1)
    return jax.ShapeDtypeStruct((1, side, side, 4), jnp.float32)


def time_on_cpu(side: int, rounds: int, widths: Sequence[int]) -> list[Timed]:
    """Decodes an image with every norm once in a round, in an order of its own."""
    latents = _latents(side, widths)
    z = jax.random.normal(jax.random.key(1), latents.shape)
    variables, programs, found = None, {}, {}
    for norm in NORMS:
        init, decode = _decoder(norm, "float32", widths)
        variables = jax.jit(init)(z) if variables is None else variables
        programs[norm] = jax.jit(decode).lower(variables, z).compile()
        jax.block_until_ready(programs[norm](variables, z))
        found[norm] = ([], [])
    order = random.Random(0)
    for _ in range(rounds):
        for norm in order.sample(NORMS, len(NORMS)):
            began, spent = time.perf_counter(), time.process_time()
            jax.block_until_ready(programs[norm](variables, z))
            found[norm][0].append(time.perf_counter() - began)
            found[norm][1].append(time.process_time() - spent)
    return [
        Timed(norm, tuple(taken), tuple(spent), program.read(made).temporaries)
        for (norm, made), (taken, spent) in zip(
            programs.items(), found.values(), strict=True
        )
    ]


def compile_for(
    target: str, norm: str, dtype: str, side: int, widths: Sequence[int]
) -> Compiled:
    """What the device's own compiler makes of one decoder."""
    device = targets.devices(target)[0]
    init, decode = _decoder(norm, dtype, widths)
    latents = _latents(side, widths)
    arguments = targets.on(device, (jax.eval_shape(init, latents), latents))
    with targets.compiling_for(device):
        made = program.read(jax.jit(decode).lower(*arguments).compile())
    return Compiled(
        target, norm, dtype, len(made.kernels), made.moved, made.temporaries
    )


def table(record: dict[str, Any]) -> str:
    """The record as a table of a page, with where it was made."""
    lines = [
        "| on a CPU, float32 | seconds of cores | times flax.linen's | scratch, MB |",
        "|---|---|---|---|",
    ]
    timed = {row["norm"]: row for row in record["cpu"]}
    linen = statistics.median(timed["flax.linen"]["cpu_seconds"])
    for norm, row in timed.items():
        spent = statistics.median(row["cpu_seconds"])
        lines.append(
            f"| {norm} | {spent:.1f} | {linen / spent:.2f} | "
            f"{row['temporaries'] / 1e6:.0f} |"
        )
    lines += [
        "",
        "| compiled for | norm | kernels | GB moved | scratch, MB |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['target']}, {row['dtype']} | {row['norm']} | {row['kernels']} | "
        f"{row['moved'] / 1e9:.2f} | {row['temporaries'] / 1e6:.0f} |"
        for row in record["compiled"]
    ]
    versions = record["versions"]
    where = (
        f"One image of {record['side']}x{record['side']}; the median of "
        f"{record['rounds']} rounds; {record['date'][:10]}, {record['cores']} cores of "
        f"{record['processor']}, jax {versions['jax']}, flax {versions['flax']}."
    )
    return "\n".join([*lines, "", where])


def main() -> None:
    """Measures, compiles, and writes the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--side", type=int, default=SIDE, help="of the image")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--widths", type=int, nargs="+", default=models.AutoencoderKL.widths
    )
    parser.add_argument(
        "--targets", nargs="*", default=["h100"], choices=targets.TARGETS
    )
    parser.add_argument("--record", type=pathlib.Path, default=RECORD)
    args = parser.parse_args()
    targets.prepare()
    record = records.stamp("jax-cuda13-plugin") | {
        "side": args.side,
        "rounds": args.rounds,
        "cpu": [],
        "compiled": [],
    }
    for target in args.targets:
        for dtype in ("float32", "bfloat16"):
            for norm in NORMS:
                row = compile_for(target, norm, dtype, args.side, args.widths)
                record["compiled"].append(dataclasses.asdict(row))
                print(row, flush=True)
    for row in time_on_cpu(args.side, args.rounds, args.widths):
        record["cpu"].append(dataclasses.asdict(row))
        print(row, flush=True)
    print(f"wrote {records.write(args.record, record)}")


if __name__ == "__main__":
    main()
