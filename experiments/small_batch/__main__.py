"""Batch norm falls apart as the batch per device shrinks; group norm does not?

    python -m experiments.small_batch --quick    # 1 minute of processor time
    python -m experiments.small_batch            # 3 minutes
    python -m experiments.small_batch --full     # 30 minutes
    python -m experiments.small_batch report --readme README.md

The figure is that of the paper (Wu & He, "Group Normalization", ECCV 2018, figure 1),
at a size for two CPU cores; `recipe` says how the networks are trained. A CPU becomes 2
virtual devices; of an accelerator all devices are taken.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from experiments import lab
from experiments.small_batch import options, report, results


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the experiment, or rebuilds its table and figure from a record."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv[:1] == ["report"]:
        return _report(argv[1:])
    asked = options.parse(argv)

    from experiments.small_batch import session

    return lab.conduct(
        session.run, asked, argv, options.COMMAND.prog, options.COMMAND.devices
    )


def _report(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.small_batch report",
        description="Prints the table of a record, and draws its figure.",
    )
    parser.add_argument(
        "--record", type=pathlib.Path, default=results.FOLDER / "full.json"
    )
    parser.add_argument("--figure", type=pathlib.Path, help="a PNG file to write")
    parser.add_argument(
        "--readme", type=pathlib.Path, help="a file with the markers small_batch"
    )
    args = parser.parse_args(argv)
    if not args.record.is_file():
        parser.error(f"argument --record: there is no file {args.record}")
    record = results.read(args.record)
    print(report.plain(record))
    print(report.outcome(record))
    if args.figure:
        print(f"wrote {report.figure(record, args.figure)}")
    if args.readme:
        report.write_readme(args.readme, record)
        print(f"wrote {args.readme}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
