"""What the runs come to: the record, and the errors by norm and batch."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from experiments.lab import Record
from experiments.lab.results import Cell, final, last_epochs, row
from experiments.lab.results import cells as by_key
from experiments.training import Config

__all__ = [
    "FOLDER",
    "GHOST",
    "Cell",
    "Record",
    "cells",
    "curves",
    "last_epochs",
    "read",
    "run",
    "statistics_of",
]

GHOST = "ghost"
FOLDER = pathlib.Path(__file__).with_name("results")


def run(config: Config, epochs: Sequence[dict[str, Any]]) -> Record:
    """The part of the record on one run."""
    made = row(config, epochs)
    return {
        **made,
        "test_error": final(made, "test_errors"),
        "train_error": final(made, "train_errors"),
    }


def read(path: pathlib.Path) -> Record:
    """A record from its file."""
    return json.loads(path.read_text())


def cells(record: Record) -> dict[str, dict[int, Cell]]:
    """Test errors in percent by norm and then by batch, in the order of the runs.

    For batch norm of ghost batches it is theirs, and the whole batch the largest.
    """
    found: dict[str, dict[int, Cell]] = {}
    for (norm, batch), cell in by_key(record, _key).items():
        found.setdefault(norm, {})[batch] = cell
    if GHOST in found and "bn" in found:
        largest = max(found["bn"])
        found[GHOST] = {largest: found["bn"][largest]} | found[GHOST]
    return found


def curves(record: Record, norm: str, batch: int) -> list[list[float]]:
    """Test errors by epoch, for each seed."""
    return [
        run["curve"]["test_errors"]
        for run in record["runs"]
        if _key(run) == (norm, batch)
    ]


def statistics_of(norm: str, batch: int) -> tuple[str, int]:
    """The norm's name, and of how many examples a device has its statistics.

    Example:
      >>> statistics_of("bn", 32), statistics_of("ghost4", 32)
      (('bn', 32), ('ghost', 4))
    """
    size = norm.removeprefix(GHOST)
    return (norm, batch) if size == norm else (GHOST, int(size))


def _key(run: Record) -> tuple[str, int]:
    return statistics_of(run["norm"], run["batch"])
