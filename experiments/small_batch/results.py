"""What the runs come to: the record, and the errors by norm and batch."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from experiments.lab import Record
from experiments.lab.results import Cell, final, last_epochs, row
from experiments.lab.results import cells as by_key
from experiments.training import Config

__all__ = ["FOLDER", "Cell", "Record", "cells", "last_epochs", "read", "run"]

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
    """Test errors in percent by norm and then by batch, in the order of the runs."""
    found: dict[str, dict[int, Cell]] = {}
    for (norm, batch), cell in by_key(
        record, lambda r: (r["norm"], r["batch"])
    ).items():
        found.setdefault(norm, {})[batch] = cell
    return found
