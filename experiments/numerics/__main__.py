"""How far is each group norm from float64, at any mean and size of group?

    python -m experiments.numerics --quick
    python -m experiments.numerics --torch-python OTHER/bin/python \
        --out experiments/numerics/results/cpu.json --figure docs/numerics.png \
        --readme README.md docs/numerics.md
    python -m experiments.numerics --record experiments/numerics/results/cpu.json \
        --readme README.md

The second measures everything, on two CPU cores in less than three minutes, and writes
the record, the plot and the tables; the third makes tables and plot anew from a record.
"""

import argparse
import dataclasses
import pathlib

from experiments import records


def main(argv: list[str] | None = None) -> None:
    """Measures, or takes a record; writes what is asked for."""
    args = _parse(argv)
    from experiments.numerics import report

    if args.record is not None:
        record = report.load(args.record)
    else:
        record = _measure(args)
        records.write(args.out, record)
        print(f"wrote {args.out}")
    if args.figure is not None:
        report.figure(record, args.figure)
        print(f"wrote {args.figure}")
    for document in args.readme:
        report.write(document, record)
    if args.record is None:
        print(report.TABLES["numerics"](record))


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.numerics",
        description="Measures the error of each group norm against float64.",
    )
    parser.add_argument("--quick", action="store_true", help="a subset in ten seconds")
    parser.add_argument(
        "--torch-python", help="a Python that can import torch, to compare with torch"
    )
    parser.add_argument("--out", type=pathlib.Path, default="runs/numerics.json")
    parser.add_argument("--figure", type=pathlib.Path, help="where to draw the errors")
    parser.add_argument(
        "--readme",
        type=pathlib.Path,
        nargs="+",
        default=[],
        metavar="DOCUMENT",
        help="rewrite the tables between the markers of these documents",
    )
    parser.add_argument(
        "--record", type=pathlib.Path, help="take this record and measure nothing"
    )
    args = parser.parse_args(argv)
    missing = [
        path
        for path in (*args.readme, *([args.record] if args.record else []))
        if not path.is_file()
    ]
    if missing:
        parser.error(f"no such file: {', '.join(map(str, missing))}")
    return args


def _measure(args: argparse.Namespace) -> dict:
    import tqdm

    from experiments.numerics import cases, measure, peers

    names = peers.NAMES
    chosen = [*cases.by_mean(), *cases.by_size()]
    if args.quick:
        names = ("flax_gn xla", "flax.linen")
        chosen = [
            *cases.by_mean(["float32"], [0.0, 1e3], ["first value"]),
            *cases.by_size(["float32"], [2, 1000]),
        ]
    try:
        torch = peers.Torch(args.torch_python) if args.torch_python else None
    except ValueError as error:
        raise SystemExit(str(error)) from None
    results = [
        dataclasses.asdict(result)
        for results in tqdm.tqdm(
            measure.run(chosen, names, torch), total=len(chosen), unit="case"
        )
        for result in results
    ]
    if torch is not None:
        torch.close()
    options = " --quick" if args.quick else ""
    options += " --torch-python PYTHON" if args.torch_python else ""
    return records.stamp("dm-haiku", "equinox", "keras") | {
        "command": f"python -m experiments.numerics{options}",
        "torch": torch.version if torch else None,
        "results": results,
    }


if __name__ == "__main__":
    main()
