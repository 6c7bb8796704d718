"""The command line: what it takes, and what it refuses before any work is done."""

import argparse
import dataclasses
import pathlib
from typing import Any

from experiments.imagenet.config import NETWORKS, NORMS, RECIPES, Config

DATA = ("synthetic", "fashion-mnist-subset")


@dataclasses.dataclass(frozen=True)
class Options:
    """What has no influence on the numbers of a run.

    Attributes:
      data: as `data.open_split` takes it.
      out: the folder of the run, shared by all hosts.
      threads: that read images, on each host.
      workers: processes that do, each with its threads; 0 for none.
      log_every: steps from one line of training metrics to the next.
      checkpoint_every: steps from one checkpoint to the next, beside those at the end
        of each epoch.
      synthetic_examples: how many examples synthetic data have.
      evaluate: whether to measure what is there and train no further.
      distributed: whether there are other hosts.
      coordinator: address and port of the first, where nothing else tells jax.
      hosts: how many, with ``coordinator``.
      host: which of them this is, with ``coordinator``.
    """

    data: str
    out: pathlib.Path
    threads: int = 16
    workers: int = 0
    log_every: int = 50
    checkpoint_every: int = 1000
    synthetic_examples: int = 1024
    evaluate: bool = False
    distributed: bool = False
    coordinator: str | None = None
    hosts: int | None = None
    host: int | None = None


def parse(argv: list[str] | None = None) -> tuple[Config, Options]:
    """Reads the command line; a wrong one ends the program with a message."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.imagenet",
        description="Trains a residual network on images, on one host or many. The "
        "same command goes on from the last checkpoint in --out.",
        allow_abbrev=False,
    )
    _add_run(parser)
    recipe = parser.add_argument_group("the recipe's values, where they are to differ")
    _add_recipe(recipe)
    _add_hosts(parser.add_argument_group("many hosts"))
    args = parser.parse_args(argv)
    given = {
        field.name: value
        for field in dataclasses.fields(Config)
        if (value := getattr(args, field.name)) is not None
    }
    if "groups" in given or "group_size" in given:
        given = {"groups": None, "group_size": None} | given
    explicit = (args.coordinator, args.hosts, args.host)
    if any(v is not None for v in explicit) and None in explicit:
        parser.error("--coordinator, --hosts and --host go together")
    existing = next(p for p in (args.out, *args.out.absolute().parents) if p.exists())
    if not existing.is_dir():
        parser.error(f"argument --out: expected a folder, got the file {existing}")
    try:
        config = dataclasses.replace(RECIPES[args.recipe], **given)
    except ValueError as error:
        parser.error(str(error))
    fields: dict[str, Any] = {
        field.name: getattr(args, field.name) for field in dataclasses.fields(Options)
    }
    fields["distributed"] |= args.coordinator is not None
    return config, Options(**fields)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        required=True,
        help=f"a folder with train/ and val/ in it, or one of {', '.join(DATA)}",
    )
    parser.add_argument(
        "--out", type=pathlib.Path, required=True, help="the folder of this run"
    )
    parser.add_argument(
        "--evaluate",
        action="store_true",
        help="measure the last checkpoint in --out, or else --weights, and stop",
    )
    parser.add_argument("--recipe", choices=RECIPES, default="paper")
    parser.add_argument(
        "--threads", type=_positive, default=16, help="that read images"
    )
    parser.add_argument(
        "--workers", type=int, default=0, help="processes that read images"
    )
    parser.add_argument("--log-every", type=_positive, default=50, metavar="STEPS")
    parser.add_argument(
        "--checkpoint-every", type=_positive, default=1000, metavar="STEPS"
    )
    parser.add_argument(
        "--synthetic-examples", type=_positive, default=1024, metavar="N"
    )
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        default=None,
        help="leave out images that cannot be read, and say how many",
    )
    parser.add_argument(
        "--skip-nonfinite",
        action="store_true",
        default=None,
        help="leave out steps whose loss is not finite, and say how many",
    )


def _add_recipe(group: Any) -> None:
    group.add_argument("--norm", choices=NORMS)
    group.add_argument("--network", choices=NETWORKS)
    group.add_argument(
        "--weights",
        metavar="FILE",
        help="to start from: timm's .safetensors, or BiT's .npz",
    )
    group.add_argument(
        "--new-head",
        action="store_true",
        default=None,
        help="start the last layer anew, for other classes",
    )
    size = group.add_mutually_exclusive_group()
    size.add_argument("--groups", type=_positive)
    size.add_argument("--group-size", type=_positive)
    group.add_argument("--statistics", choices=("device", "global"))
    group.add_argument("--batch", type=_positive, help="over all devices")
    group.add_argument("--accumulation", type=_positive)
    group.add_argument("--epochs", type=_positive)
    group.add_argument("--image-size", type=_positive)
    group.add_argument("--rate", type=float, help="for 256 examples")
    group.add_argument("--schedule", choices=("steps", "cosine"))
    group.add_argument("--warmup", type=float, help="epochs")
    group.add_argument("--momentum", type=float)
    group.add_argument("--nesterov", action=argparse.BooleanOptionalAction)
    group.add_argument("--weight-decay", type=float)
    group.add_argument("--decay", choices=("all", "kernels"))
    group.add_argument("--smoothing", type=float)
    group.add_argument("--augment", choices=("crop", "none"))
    group.add_argument("--dtype", choices=("float32", "bfloat16"))
    group.add_argument("--remat", action=argparse.BooleanOptionalAction)
    group.add_argument("--seed", type=int)


def _add_hosts(group: Any) -> None:
    group.add_argument(
        "--distributed",
        action="store_true",
        help="find the others through Slurm, Open MPI, GKE or the TPU pod",
    )
    group.add_argument(
        "--coordinator", help="where nothing tells: address:port of the first host"
    )
    group.add_argument("--hosts", type=_positive, help="how many")
    group.add_argument("--host", type=int, help="which this is, from 0")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text!r}")
    return int(text)
