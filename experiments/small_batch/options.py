"""The command line: what it takes, and what it refuses before any work is done."""

import pathlib
from collections.abc import Sequence

from experiments import lab
from experiments.lab import options
from experiments.lab.options import Options
from experiments.small_batch import recipe

COMMAND = lab.Command(
    prog="python -m experiments.small_batch",
    description="Trains with batch norm and with group norm at ever fewer examples per "
    "device, and ends with a table, a record and a figure. "
    "`python -m experiments.small_batch report` redraws them from a record.",
    norms=recipe.NORMS,
    choices=recipe.CHOICES,
    sizes=recipe.SIZES,
    quick="two batch sizes, two epochs of a quarter of the images",
    full="three seeds, 12 epochs, six batch sizes",
    out=pathlib.Path("runs") / "small_batch",
    devices=recipe.DEVICES,
)


def parse(argv: Sequence[str] | None = None) -> Options:
    """Reads the command line; a wrong one ends the program with a message."""
    return options.parse(argv, COMMAND)
