"""Plans a training run for machines that are not here.

    python -m experiments.plan --topology v5e:16x16 --norm gn --per-device 32
    python -m experiments.plan --topology v5e:2x4 h100 --norm gn bn --largest
    python -m experiments.plan report --docs docs/scale.md

compiles the very training step of `experiments.imagenet` with the real compilers of
TPUs and of an H100, and prints the memory that each device needs, the collectives with
their bytes per step and, with ``--largest``, the largest batch that fits. It takes the
wheels of `experiments.benchmark.targets`, and minutes for each answer.
"""

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Iterator

import jax

from experiments.imagenet.config import NETWORKS, NORMS, PAPER, Config
from experiments.plan import report, search, step

# GiB of a device, to start the search above the answer. The compiler decides.
_HBM = {"v4": 32, "v5e": 16, "v5p": 95, "v6e": 32, "7x": 96, "h100": 80}


def main(argv: list[str] | None = None) -> int:
    """Prints the plans, or rebuilds the table from a record."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["report"]:
        return _report(argv[1:])
    parser = _parser()
    args = parser.parse_args(argv)
    jax.config.update("jax_platforms", "cpu")
    for topology in args.topology:
        for norm in args.norm:
            try:
                config = _config(args, norm)
                for row in _answers(args, config, topology):
                    print(report.plain(row), flush=True)
                    if args.record is not None:
                        report.save(args.record, [row])
            except (ValueError, RuntimeError) as error:
                if isinstance(error, jax.errors.JaxRuntimeError):
                    raise  # the compiler's own trouble
                parser.error(str(error))
    return 0


def _answers(
    args: argparse.Namespace, config: Config, topology: str
) -> Iterator[report.Row]:
    asked = {name: getattr(config, name) for name in _TOLD}
    asked |= {"classes": args.classes}
    made = step.make(config, topology, args.per_device, args.classes)
    yield report.Row(topology, asked, False, args.per_device, made)
    if args.largest:
        # Activations grow with the batch, and little else does.
        start = args.per_device
        if made is not None:
            free = 1.1 * _HBM[step.target(topology)] * report.GIB
            start = int(free / (made.temporaries / made.batch))

        def at(batch: int) -> step.Made | None:
            found = step.make(config, topology, batch, args.classes)
            answer = "does not fit" if found is None else "fits"
            print(f"  {batch} per device: {answer}", flush=True)
            return found

        most = search.largest(at, start, config.accumulation)
        yield report.Row(topology, asked, True, None, most)


# What a plan depends on beside the norm's own options.
_TOLD = ("network", "norm", "image_size", "dtype", "remat", "accumulation")


def _config(args: argparse.Namespace, norm: str) -> Config:
    return dataclasses.replace(
        PAPER,
        **{name: getattr(args, name) for name in _TOLD if name != "norm"},
        norm=norm,
        statistics=args.statistics,
        groups=PAPER.groups if args.group_size is None else None,
        group_size=args.group_size,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.plan",
        description="Compiles the training step for devices that are not here, and "
        "prints memory, collectives and the largest batch that fits.",
        epilog="`python -m experiments.plan report` prints a record as a table.",
    )
    parser.add_argument(
        "--topology",
        nargs="+",
        required=True,
        help="v5e:2x4, v5e:16x16, v6e:8x8, v4:2x2x1, h100, ...",
    )
    parser.add_argument("--network", choices=NETWORKS, default=PAPER.network)
    parser.add_argument("--norm", nargs="+", choices=NORMS, default=["gn"])
    parser.add_argument("--group-size", type=_positive, help="in place of 32 groups")
    parser.add_argument(
        "--statistics",
        choices=("device", "global"),
        default="device",
        help="of batch norm: each device's own, or shared",
    )
    parser.add_argument(
        "--per-device", type=_positive, default=32, help="examples in a step"
    )
    parser.add_argument("--image-size", type=_positive, default=PAPER.image_size)
    parser.add_argument("--classes", type=_positive, default=1000)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--remat", action="store_true")
    parser.add_argument("--accumulation", type=_positive, default=1)
    parser.add_argument(
        "--largest", action="store_true", help="search the largest batch that fits"
    )
    parser.add_argument("--record", type=pathlib.Path, help="a JSON file to add to")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text!r}")
    return int(text)


def _report(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.plan report",
        description="Prints the table of a record, and writes it into a document.",
    )
    parser.add_argument("--record", type=pathlib.Path, default=report.RECORD)
    parser.add_argument(
        "--docs", type=pathlib.Path, help="a file with the markers plan"
    )
    args = parser.parse_args(argv)
    if not args.record.is_file():
        parser.error(f"argument --record: there is no file {args.record}")
    print(report.section(args.record))
    if args.docs:
        report.write_docs(args.docs, args.record)
        print(f"wrote {args.docs}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
