"""What the runs come to: the record, and the errors by norm and batch."""

import dataclasses
import json
import pathlib
import statistics
from collections.abc import Sequence
from typing import Any

from experiments.small_batch.recipe import last_epochs
from experiments.training import Config

FOLDER = pathlib.Path(__file__).with_name("results")
Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One norm at one batch, over seeds, in percent.

    Attributes:
      errors: test error of each seed, the median of its last epochs.
      train_errors: likewise, on the augmented training images as they were trained on.
    """

    errors: list[float]
    train_errors: list[float]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.errors)

    @property
    def spread(self) -> float | None:
        """The sample standard deviation over seeds, if there are several."""
        return statistics.stdev(self.errors) if len(self.errors) > 1 else None


def run(config: Config, epochs: Sequence[dict[str, Any]]) -> Record:
    """The part of the record on one run."""
    last = epochs[-last_epochs(config.epochs) :]
    return {
        **dataclasses.asdict(config),
        "test_error": statistics.median(e["test_errors"] for e in last),
        "train_error": statistics.median(e["train_errors"] for e in last),
        "seconds": round(sum(e["seconds"] for e in epochs), 1),
        "curve": {
            name: [round(e[name], 6) for e in epochs]
            for name in ("train_loss", "train_errors", "test_loss", "test_errors")
        },
    }


def read(path: pathlib.Path) -> Record:
    """A record from its file."""
    return json.loads(path.read_text())


def cells(record: Record) -> dict[str, dict[int, Cell]]:
    """By norm and then by batch, in the order of the runs."""
    found: dict[str, dict[int, Cell]] = {}
    for row in record["runs"]:
        cell = found.setdefault(row["norm"], {}).setdefault(row["batch"], Cell([], []))
        cell.errors.append(100 * row["test_error"])
        cell.train_errors.append(100 * row["train_error"])
    return found
