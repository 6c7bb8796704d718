"""Learning rates, and how long to train: found on training images that are held out.

    python -m experiments search small_batch
    python -m experiments search small_batch --norms ln --epochs 4 8 16 32 --rates 0.4 \
        --out pilot.json

Every rate of `RATES` trains each norm on 8,000 of the training images, at 32 examples
per device, and is judged by the error on the other 2,000. Neither the test images nor
the seed serve the results that are reported. With several numbers of epochs and one
rate it is a pilot: how the error falls with the length of training.
"""

import argparse
import dataclasses
import importlib
import json
import pathlib
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments import data
from experiments.lab.results import last_epochs

RATES = (0.1, 0.2, 0.4, 0.8, 1.6)  # per 256 examples
BATCH = 32
DEVICES = 2
EPOCHS = 8
SEED = 100
HELD_OUT = 2_000
_FOLDER = pathlib.Path(__file__).parents[1]
# By experiment: its module and the network in it, and the norms that are searched.
SEARCHED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "small_batch": ("network", ("bn", "gn", "ln", "in")),
    "groups": ("network", ("groups32",)),
}


def path(experiment: str, norm: str) -> pathlib.Path:
    """The record of a search."""
    return _FOLDER / experiment / "results" / "search" / f"{norm}.json"


def best(experiment: str, norm: str) -> float:
    """The rate with the least error in the committed search."""
    tried = json.loads(path(experiment, norm).read_text())["results"]
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


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the search of an experiment and writes a record for each norm."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments search",
        description="Searches each norm's learning rate on training images held out.",
        allow_abbrev=False,
    )
    parser.add_argument("experiment", choices=SEARCHED)
    parser.add_argument("--norms", nargs="+", help="default: all that are searched")
    parser.add_argument("--rates", nargs="+", type=float, default=RATES)
    parser.add_argument("--epochs", nargs="+", type=int, default=[EPOCHS])
    parser.add_argument("--out", type=pathlib.Path, help="a file, for one norm")
    args = parser.parse_args(argv)
    attribute, norms = SEARCHED[args.experiment]
    norms = args.norms or norms
    if args.out and len(norms) > 1:
        parser.error("argument --out: expected one norm with it")
    from experiments import records
    from experiments.training import devices

    devices.prepare(DEVICES)
    recipe = importlib.import_module(f"experiments.{args.experiment}.recipe")
    for norm in norms:
        record = search(getattr(recipe, attribute), norm, args.rates, args.epochs)
        out = args.out or path(args.experiment, norm)
        print(f"wrote {records.write(out, record)}")
    return 0


def search(
    network: Callable[..., Any],
    norm: str,
    rates: Sequence[float],
    epochs: Sequence[int],
) -> dict[str, Any]:
    """Trains a norm at every rate for every number of epochs."""
    import jax

    from experiments import records, training
    from experiments.training.config import epoch_examples

    dataset = split(data.load("fashion-mnist-subset"))
    count = jax.device_count()
    taken = epoch_examples(len(dataset.train_labels), [BATCH * count])
    task = training.Classification(dataset, network, norm)
    found = []
    for rate in rates:
        for length in epochs:
            config = training.Config(
                norm=norm,
                batch=BATCH,
                devices=count,
                seed=SEED,
                epochs=length,
                epoch_examples=taken,
                rate=rate,
            )
            with tempfile.TemporaryDirectory() as folder:
                done = training.train(
                    config, training.Program(task, config), pathlib.Path(folder)
                )
            errors = [epoch["test_errors"] for epoch in done[-last_epochs(length) :]]
            error = float(np.median(errors))
            print(
                f"{norm}  rate {rate:<4}  {length} epochs  error {100 * error:5.2f}%",
                flush=True,
            )
            found.append({"config": dataclasses.asdict(config), "error": error})
    return {"stamp": records.stamp("optax"), "results": found}


if __name__ == "__main__":
    sys.exit(main())
