"""Learning rates, and how long to train: found on training data that is held out.

    python -m experiments search small_batch
    python -m experiments search norms --pilot

Every rate trains each norm on a part of the training data and is judged by the error on
the rest: for images at 32 examples per device on 8,000 of them, judged by the other
2,000. Neither the test data nor the seed serve the results that are reported. What is
trained is what the experiment's module ``trial`` says.

With ``--pilot`` it trains a norm that is slow to learn at one rate and several
lengths: how the error falls with the length of training (`experiments.lab.pilot`).
"""

import argparse
import dataclasses
import importlib
import json
import pathlib
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments import data
from experiments.lab import pilot
from experiments.lab.results import last_epochs
from experiments.training.config import Config, epoch_examples
from experiments.training.program import Task

RATES = (0.1, 0.2, 0.4, 0.8, 1.6)  # per 256 examples
BATCH = 32
DEVICES = 2
EPOCHS = 8
SEED = 100
HELD_OUT = 2_000
_FOLDER = pathlib.Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Searched:
    """What is searched for an experiment.

    Attributes:
      norms: by the names that the experiment's ``trial`` takes.
      rates: that are tried.
      epochs: of each.
      devices: into which a CPU is cut.
    """

    norms: tuple[str, ...]
    rates: tuple[float, ...] = RATES
    epochs: int = EPOCHS
    devices: int = DEVICES


SEARCHED: Mapping[str, Searched] = {
    "small_batch": Searched(("bn", "gn", "ln", "in")),
    "norms": Searched(
        ("bn", "ln", "in", "gn"), rates=(0.2, 0.4, 0.8, 1.6, 3.2), devices=1
    ),
    "groups": Searched(("groups32",), devices=1),
    "depth": Searched(
        ("resnet-bn", "resnet-gn", "vgg-none", "vgg-bn", "vgg-gn"),
        rates=(0.05, *RATES),
        epochs=6,
    ),
    "finetune": Searched(
        ("bn", "frozen", "gn", "gn+ws"),
        rates=(0.025, 0.05, 0.1, 0.2, 0.4, 0.8),
        epochs=4,
    ),
    "detection": Searched(
        ("frozen", "bn", "gn"),
        rates=(0.032, 0.064, 0.128, 0.256, 0.512, 1.024),
        epochs=30,
    ),
}


class Trial(NamedTuple):
    """What a search trains.

    Attributes:
      task: tested on what is held out of the training data.
      config: of which the search replaces the rate and the epochs.
    """

    task: Task
    config: Config


def path(experiment: str, norm: str) -> pathlib.Path:
    """The record of a search."""
    return _FOLDER / experiment / "results" / "search" / f"{norm}.json"


def best(experiment: str, norm: str) -> float:
    """The rate with the least error in the committed search."""
    tried = _rows(path(experiment, norm))
    return min(tried, key=lambda row: row["error"])["config"]["rate"]


def split(dataset: data.Dataset) -> data.Dataset:
    """The training images alone, some of them in the place of the test images."""
    order = np.random.default_rng(SEED).permutation(len(dataset.train_labels))
    held, kept = order[:HELD_OUT], order[HELD_OUT:]
    return dataclasses.replace(
        dataset,
        train_images=dataset.train_images[kept],
        train_labels=dataset.train_labels[kept],
        test_images=dataset.train_images[held],
        test_labels=dataset.train_labels[held],
    )


def images() -> data.Dataset:
    """The images that ship with the package, `split`."""
    return split(data.load("fashion-mnist-subset"))


def on_images(network: Callable[..., Any], norm: str, *, name: str = "") -> Trial:
    """The `Trial` of a network that tells images apart, from random weights."""
    from experiments.training import Classification

    dataset = images()
    return Trial(
        Classification(dataset, network, norm), config(dataset, norm, network=name)
    )


def config(
    dataset: data.Dataset, norm: str, *, batch: int = BATCH, network: str = ""
) -> Config:
    """The config of a `Trial` on images."""
    import jax

    devices = jax.device_count()
    return Config(
        norm=norm,
        batch=batch,
        devices=devices,
        seed=SEED,
        epochs=1,
        epoch_examples=epoch_examples(len(dataset.train_labels), [batch * devices]),
        rate=0.0,
        network=network,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the search of an experiment, or its pilot, and writes a record for each."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments search",
        description="Searches each norm's learning rate on training data held out.",
        allow_abbrev=False,
    )
    parser.add_argument("experiment", choices=SEARCHED)
    parser.add_argument("--norms", nargs="+", help="default: all that are searched")
    parser.add_argument("--rates", nargs="+", type=float)
    parser.add_argument("--epochs", nargs="+", type=int)
    parser.add_argument(
        "--pilot", action="store_true", help="one norm at several lengths"
    )
    parser.add_argument("--out", type=pathlib.Path, help="a file, for one norm")
    parser.add_argument(
        "--resume", action="store_true", help="keep what the record has of the same"
    )
    args = parser.parse_args(argv)
    searched = SEARCHED[args.experiment]
    pilots = {found.norm: found for found in pilot.PILOTS.get(args.experiment, ())}
    known = tuple(pilots) if args.pilot else searched.norms
    norms = args.norms or known
    if not set(norms) <= set(known):
        parser.error(f"argument --norms: expected some of {[*known]}, got {norms}")
    if args.out and len(norms) > 1:
        parser.error("argument --out: expected one norm with it")
    from experiments.training import devices

    devices.prepare(searched.devices)
    trial = importlib.import_module(f"experiments.{args.experiment}.trial").trial
    with tempfile.TemporaryDirectory() as folder:
        for norm in norms:
            if args.pilot:
                of = pilots[norm]
                rates = args.rates or [best(args.experiment, of.rated or norm)]
                epochs = args.epochs or of.epochs
                out = pilot.path(args.experiment, norm)
            else:
                rates = args.rates or searched.rates
                epochs = args.epochs or [searched.epochs]
                out = path(args.experiment, norm)
            out = args.out or out
            kept = _rows(out) if args.resume and out.exists() else []
            search(trial(norm, pathlib.Path(folder)), norm, rates, epochs, out, kept)
            print(f"wrote {out}")
    return 0


def search(
    trial: Trial,
    norm: str,
    rates: Sequence[float],
    epochs: Sequence[int],
    out: pathlib.Path,
    kept: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Trains at every rate for every number of epochs, and writes it as it goes.

    What an earlier session ``kept`` of the same config is not trained again.
    """
    from experiments import records, training

    configs = [
        dataclasses.replace(trial.config, rate=rate, epochs=length)
        for rate in rates
        for length in epochs
    ]
    asked = [dataclasses.asdict(config) for config in configs]
    found = [row for row in kept if row["config"] in asked]
    for config, described in zip(configs, asked, strict=True):
        if described in [row["config"] for row in found]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            done = training.train(
                config, training.Program(trial.task, config), pathlib.Path(folder)
            )
        last = done[-last_epochs(config.epochs) :]
        error = float(np.median([error_of(epoch) for epoch in last]))
        print(
            f"{norm}  rate {config.rate:<4}  {config.epochs} epochs  "
            f"error {100 * error:5.2f}%",
            flush=True,
        )
        found.append({"config": described, "error": error})
        found.sort(key=lambda row: asked.index(row["config"]))
        records.write(out, {"stamp": records.stamp("optax"), "results": found})


def _rows(file: pathlib.Path) -> list[dict[str, Any]]:
    return json.loads(file.read_text())["results"]


def error_of(epoch: Mapping[str, float]) -> float:
    """Of an epoch: the part of the answers that is wrong, or what AP lacks of one."""
    return epoch["test_errors"] if "test_errors" in epoch else 1 - epoch["test_ap"]


if __name__ == "__main__":
    sys.exit(main())
