"""The search for the peak learning rate, the same for each norm.

    python -m experiments.small_batch.search
    python -m experiments.small_batch.search --norms ln in --out FILE

Every rate of `RATES` trains each norm on 8,000 of the training images, at 32 examples
per device, and is judged by the error on the other 2,000. Neither the test images nor
the seed serve the results that are reported.
"""

import argparse
import dataclasses
import pathlib
import tempfile
from collections.abc import Sequence

import numpy as np

from experiments import data, records, training
from experiments.small_batch import recipe
from experiments.training import devices
from experiments.training.config import epoch_examples

RATES = (0.1, 0.2, 0.4, 0.8, 1.6)  # per 256 examples
BATCH = 32
SEED = 100
HELD_OUT = 2_000
RECORD = pathlib.Path(__file__).with_name("results") / "search.json"


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


def main(argv: list[str] | None = None) -> None:
    """Runs the search and writes its record."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.small_batch.search", description=__doc__
    )
    parser.add_argument(
        "--norms", nargs="+", choices=training.NORMS, default=recipe.NORMS
    )
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=BATCH, help="examples per device")
    parser.add_argument("--out", type=pathlib.Path, default=RECORD)
    args = parser.parse_args(argv)
    devices.prepare()
    record = search(args.norms, args.epochs, args.batch)
    print(f"wrote {records.write(args.out, record)}")


def search(norms: Sequence[str], epochs: int, batch: int) -> dict:
    """Trains every norm at every rate."""
    import jax

    dataset = split(data.load("fashion-mnist-subset"))
    count = jax.device_count()
    taken = epoch_examples(len(dataset.train_labels), [batch * count])
    last = recipe.last_epochs(epochs)
    results = []
    for norm in norms:
        task = training.Classification(dataset, recipe.network, norm)
        for rate in RATES:
            config = training.Config(
                norm=norm,
                batch=batch,
                devices=count,
                seed=SEED,
                epochs=epochs,
                epoch_examples=taken,
                rate=rate,
            )
            with tempfile.TemporaryDirectory() as folder:
                epochs_done = training.train(
                    config, training.Program(task, config), pathlib.Path(folder)
                )
            error = float(np.median([e["test_errors"] for e in epochs_done[-last:]]))
            print(f"{norm}  rate {rate:<4}  error {100 * error:5.2f}%", flush=True)
            results.append({"config": dataclasses.asdict(config), "error": error})
    return {"stamp": records.stamp("optax"), "results": results}


if __name__ == "__main__":
    main()
