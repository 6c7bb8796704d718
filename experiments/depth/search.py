"""The search for the VGG's peak learning rate, the same for each norm.

    python -m experiments.depth.search

As `experiments.small_batch.search`: on training images held out, at 32 examples per
device.
"""

import pathlib

from experiments import records
from experiments.depth import recipe
from experiments.small_batch.search import BATCH, search
from experiments.training import devices

RATES = (0.05, 0.1, 0.2, 0.4)  # per 256 examples
EPOCHS = 4
RECORD = pathlib.Path(__file__).with_name("results") / "search.json"


def main() -> None:
    """Runs the search and writes its record."""
    devices.prepare()
    record = search(recipe.NORMS, EPOCHS, BATCH, recipe.NETWORKS["vgg"], RATES)
    print(f"wrote {records.write(RECORD, record)}")


if __name__ == "__main__":
    main()
