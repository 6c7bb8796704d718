"""The command line: what it takes, and what it refuses before any work is done."""

import argparse
import dataclasses
import pathlib

from experiments import data
from experiments.small_batch import recipe
from experiments.training import NORMS

OUT = pathlib.Path("runs") / "small_batch"


@dataclasses.dataclass(frozen=True)
class Options:
    """A checked command line."""

    dataset: str
    data_folder: pathlib.Path | None
    norms: tuple[str, ...]
    size_name: str
    size: recipe.Size
    parallelism: str
    out: pathlib.Path
    resume: bool

    @property
    def runs(self) -> pathlib.Path:
        """The folder of the runs' epochs and checkpoints."""
        return self.out / "runs"

    @property
    def plan(self) -> pathlib.Path:
        """The file that says which runs those are."""
        return self.runs / "plan.json"


def parse(argv: list[str] | None = None) -> Options:
    """Reads the command line; a wrong one ends the program with a message."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.small_batch",
        description="Trains with batch norm and with group norm at ever fewer examples "
        "per device, and ends with a table, a record and a figure. `python -m "
        "experiments.small_batch report` redraws them from a record.",
        epilog="Ctrl-C leaves a checkpoint; the same command with --resume goes on.",
        allow_abbrev=False,
    )
    parser.add_argument("--dataset", choices=data.NAMES, default=data.NAMES[0])
    parser.add_argument(
        "--data-folder",
        type=pathlib.Path,
        help="where the dataset's files are (default: the user's cache)",
    )
    parser.add_argument("--norms", nargs="+", choices=NORMS, default=list(recipe.NORMS))
    parser.add_argument(
        "--batch-sizes", nargs="+", type=_positive, help="examples per device"
    )
    parser.add_argument("--seeds", type=_positive, help="how many runs of each")
    parser.add_argument("--epochs", type=_positive)
    parser.add_argument(
        "--parallelism",
        choices=("pmap", "jit"),
        default="pmap",
        help="pmap: statistics per device, as in the paper; jit: batch norm sees the "
        "whole batch of all devices",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick", action="store_true", help="two batch sizes, two epochs"
    )
    size.add_argument("--full", action="store_true", help="three seeds, 30 epochs")
    parser.add_argument("--out", type=pathlib.Path, default=OUT, help="a folder")
    parser.add_argument(
        "--resume", action="store_true", help="go on with what is in --out"
    )
    args = parser.parse_args(argv)
    name = "quick" if args.quick else "full" if args.full else "default"
    given = {
        "batches": args.batch_sizes and tuple(args.batch_sizes),
        "seeds": args.seeds,
        "epochs": args.epochs,
    }
    for option, values in (("norms", args.norms), ("batch-sizes", args.batch_sizes)):
        if values and len(set(values)) < len(values):
            parser.error(f"argument --{option}: expected each once, got {values}")
    if args.data_folder is not None and not args.data_folder.is_dir():
        parser.error(
            f"argument --data-folder: expected a folder, got {args.data_folder}"
        )
    if args.data_folder is not None and args.dataset == data.NAMES[0]:
        parser.error(
            f"argument --data-folder: {args.dataset} ships with the package; name the "
            "folder's dataset with --dataset"
        )
    existing = next(p for p in (args.out, *args.out.absolute().parents) if p.exists())
    if not existing.is_dir():
        parser.error(f"argument --out: expected a folder, got the file {existing}")
    options = Options(
        dataset=args.dataset,
        data_folder=args.data_folder,
        norms=tuple(args.norms),
        size_name=name,
        size=dataclasses.replace(
            recipe.SIZES[name], **{k: v for k, v in given.items() if v}
        ),
        parallelism=args.parallelism,
        out=args.out,
        resume=args.resume,
    )
    if options.resume and not options.plan.exists():
        parser.error(
            f"argument --resume: there are no runs in {options.out}; leave --resume "
            "out, or name the folder of the interrupted runs with --out"
        )
    return options


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text!r}")
    return value
