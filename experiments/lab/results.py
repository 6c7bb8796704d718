"""What runs come to: a row of the record for each, and numbers over seeds."""

import dataclasses
import math
import statistics
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from experiments.lab.experiment import Record
from experiments.training import Config


def last_epochs(epochs: int) -> int:
    """Over how many epochs at the end a median is taken: 5, or a fifth."""
    return min(5, max(1, epochs // 5))


def row(config: Config, epochs: Sequence[dict[str, Any]]) -> Record:
    """The part of the record on one run: its config, and the curve of each number."""
    names = [
        name
        for name in epochs[0]
        if name.startswith(("train_", "test_")) and name != "seconds"
    ]
    return {
        **dataclasses.asdict(config),
        "seconds": round(sum(e["seconds"] for e in epochs), 1),
        "curve": {name: [round(e[name], 6) for e in epochs] for name in names},
    }


def final(run: Record, name: str) -> float:
    """The median of the last epochs, as the paper reports.

    >>> final({"epochs": 10, "curve": {"test_errors": [.5] * 8 + [.25, .75]}},
    ...       "test_errors")
    0.5
    """
    return statistics.median(run["curve"][name][-last_epochs(run["epochs"]) :])


def told(run: Record) -> str:
    """The final numbers of the test set, for a terminal."""
    return ", ".join(
        f"error {100 * final(run, name):.1f}%"
        if name == "test_errors"
        else f"{name.removeprefix('test_')} {final(run, name):.3f}"
        for name in run["curve"]
        if name.startswith("test_") and name != "test_loss"
    )


@dataclasses.dataclass(frozen=True)
class Cell:
    """One number for each seed.

    >>> str(Cell([10.0, 12.0])), str(Cell([10.0])), Cell([10.0, 12.0]).mean
    ('11.0 ± 1.4', '10.0', 11.0)
    """

    values: list[float]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float | None:
        """The sample standard deviation over seeds, if there are several."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def __str__(self) -> str:
        return format(self, ".1f")

    def __format__(self, spec: str) -> str:
        spec = spec or ".1f"
        if self.spread is None:
            return format(self.mean, spec)
        return f"{self.mean:{spec}} ± {self.spread:{spec}}"


def exceeds(a: Cell, b: Cell) -> bool:
    """Whether a's mean is above b's by more than the standard error of the difference.

    The rule of the page's verdicts. With one seed each any difference counts.

    >>> exceeds(Cell([10.0, 12.0]), Cell([9.0, 9.0]))
    True
    >>> exceeds(Cell([10.0, 12.0]), Cell([10.5, 10.5])), exceeds(Cell([2.0]), Cell([1]))
    (False, True)
    """
    variances = ((cell.spread or 0.0) ** 2 / len(cell.values) for cell in (a, b))
    return a.mean - b.mean > math.sqrt(sum(variances))


def cells(
    record: Record,
    key: Callable[[Record], Hashable],
    name: str = "test_errors",
    scale: float = 100.0,
) -> dict[Any, Cell]:
    """The final ``name`` of all seeds by ``key`` of the run, in the order of the runs.

    Args:
      record: has "runs".
      key: what runs of different seeds have in common, such as their norm.
      name: of a curve.
      scale: multiplies it; by default a part becomes percent.
    """
    found: dict[Any, Cell] = {}
    for run in record["runs"]:
        cell = found.setdefault(key(run), Cell([]))
        cell.values.append(scale * final(run, name))
    return found


def seeds(record: Record) -> int:
    """How many seeds the runs have."""
    return len({run["seed"] for run in record["runs"]})


def spread_of(record: Record) -> str:
    """What stands in a cell, for a caption.

    >>> spread_of({"runs": [{"seed": 0}, {"seed": 1}]})
    'mean ± sample standard deviation of 2 seeds'
    """
    count = seeds(record)
    if count == 1:
        return "one seed"
    return f"mean ± sample standard deviation of {count} seeds"
