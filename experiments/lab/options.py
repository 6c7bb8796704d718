"""The command line: what it takes, and what it refuses before any work is done."""

import argparse
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

from experiments import data


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is run.

    Attributes:
      epochs: passes over the training set.
      batches: examples per device.
      seeds: how many.
      examples: at most so many training examples; None for all.
    """

    epochs: int
    batches: tuple[int, ...]
    seeds: int
    examples: int | None = None


@dataclasses.dataclass(frozen=True)
class Command:
    """What an experiment's command line is about.

    Attributes:
      prog: how it is called.
      description: for --help.
      norms: what is compared, unless --norms says otherwise.
      choices: what --norms can say.
      sizes: "default" and "quick", and "full" where there is one.
      quick: what --quick does, for --help.
      full: what --full does, for --help.
      datasets: the first is the default; empty where the experiment brings its own.
      shipped: whether the default lies in the package, so that no folder can hold it.
      sizes_of: of the datasets whose sizes are not ``sizes``.
      out: the default of --out.
      parallelism: the default of --parallelism.
      devices: virtual ones, into which a CPU is cut.
    """

    prog: str
    description: str
    norms: tuple[str, ...]
    choices: tuple[str, ...]
    sizes: Mapping[str, Size]
    out: pathlib.Path
    quick: str = "a short run that settles nothing"
    full: str = ""
    datasets: tuple[str, ...] = data.NAMES
    shipped: bool = True
    sizes_of: Mapping[str, Mapping[str, Size]] = dataclasses.field(default_factory=dict)
    parallelism: str = "pmap"
    devices: int = 8


@dataclasses.dataclass(frozen=True)
class Options:
    """A checked command line."""

    dataset: str
    data_folder: pathlib.Path | None
    norms: tuple[str, ...]
    size_name: str
    size: Size
    parallelism: str
    out: pathlib.Path
    resume: bool
    share: tuple[int, int] | None = None

    @property
    def runs(self) -> pathlib.Path:
        """The folder of the runs' epochs and checkpoints."""
        return self.out / "runs"

    @property
    def plan(self) -> pathlib.Path:
        """The file that says which runs those are."""
        return self.runs / "plan.json"


def parse(argv: Sequence[str] | None, command: Command) -> Options:
    """Reads the command line; a wrong one ends the program with a message."""
    parser = _parser(command)
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
    if command.datasets:
        _check_data(parser, args, command.datasets[0] if command.shipped else None)
    sizes = command.sizes_of.get(args.dataset, command.sizes)
    if name not in sizes:
        parser.error(f"argument --{name}: {args.dataset} has no such size")
    existing = next(p for p in (args.out, *args.out.absolute().parents) if p.exists())
    if not existing.is_dir():
        parser.error(f"argument --out: expected a folder, got the file {existing}")
    options = Options(
        dataset=args.dataset,
        data_folder=args.data_folder,
        norms=tuple(args.norms),
        size_name=name,
        size=dataclasses.replace(sizes[name], **{k: v for k, v in given.items() if v}),
        parallelism=args.parallelism,
        out=args.out,
        resume=args.resume,
        share=args.share,
    )
    if options.resume and options.share:
        parser.error("argument --share: not allowed with argument --resume")
    if options.resume and not options.plan.exists():
        parser.error(
            f"argument --resume: there are no runs in {options.out}; leave --resume "
            "out, or name the folder of the interrupted runs with --out"
        )
    return options


def _parser(command: Command) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=command.prog,
        description=command.description,
        epilog="Ctrl-C leaves a checkpoint; the same command with --resume goes on.",
        allow_abbrev=False,
    )
    parser.set_defaults(dataset="", data_folder=None, full=False)
    if command.datasets:
        parser.add_argument(
            "--dataset", choices=command.datasets, default=command.datasets[0]
        )
        parser.add_argument(
            "--data-folder",
            type=pathlib.Path,
            help="where the dataset's files are (default: the user's cache)",
        )
    parser.add_argument(
        "--norms", nargs="+", choices=command.choices, default=list(command.norms)
    )
    parser.add_argument(
        "--batch-sizes", nargs="+", type=positive, help="examples per device"
    )
    parser.add_argument("--seeds", type=positive, help="how many runs of each")
    parser.add_argument("--epochs", type=positive)
    parser.add_argument(
        "--parallelism",
        choices=("pmap", "vmap", "jit"),
        default=command.parallelism,
        help="pmap: statistics per device, as in the paper; vmap: likewise, with the "
        "paper's 8 devices as an axis of one program on one device; jit: batch norm "
        "sees the whole batch of all devices",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help=command.quick)
    if "full" in command.sizes:
        size.add_argument("--full", action="store_true", help=command.full)
    parser.add_argument(
        "--out", type=pathlib.Path, default=command.out, help="a folder"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with what is in --out; more --seeds or --norms are added to it",
    )
    parser.add_argument(
        "--share",
        type=share,
        metavar="I/N",
        help="train a part of the runs, the Ith of N alike, to have N processes for "
        "one --out; --resume then gathers them",
    )
    return parser


def _check_data(
    parser: argparse.ArgumentParser, args: argparse.Namespace, shipped: str | None
) -> None:
    if args.data_folder is not None and not args.data_folder.is_dir():
        parser.error(
            f"argument --data-folder: expected a folder, got {args.data_folder}"
        )
    if args.data_folder is not None and args.dataset == shipped:
        parser.error(
            f"argument --data-folder: {args.dataset} ships with the package; name the "
            "folder's dataset with --dataset"
        )


def share(text: str) -> tuple[int, int]:
    """A part of a command line: "2/3" is the second of three.

    >>> share("2/3")
    (2, 3)
    """
    index, _, count = text.partition("/")
    found = positive(index), positive(count)
    if found[0] > found[1]:
        raise argparse.ArgumentTypeError(f"expected a part of {count}, got {text!r}")
    return found


def positive(text: str) -> int:
    """A positive integer of a command line."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text!r}")
    return value
