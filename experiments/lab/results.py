"""What runs come to: a row of the record for each, and numbers over seeds."""

import dataclasses
import functools
import math
import operator
import statistics
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from experiments.lab.experiment import Record, Ruling
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


def apart(a: Cell, b: Cell) -> Cell:
    """The difference of each seed.

    >>> apart(Cell([3.0, 5.0]), Cell([1.0, 2.0])).values
    [2.0, 3.0]
    """
    return Cell([x - y for x, y in zip(a.values, b.values, strict=True)])


ERRORS = 2.0  # standard errors that decide


def exceeds(a: Cell, b: Cell, by: float = 0.0) -> Ruling:
    """Whether a is above b by more than ``by``, over seeds that both were run with.

    The rule of the page's verdicts. Differences are taken seed by seed, since the runs
    of a seed begin with the same weights and see the same examples; their mean has to
    be off ``by`` by more than `ERRORS` of its standard errors, to one side or to the
    other. One seed, or other seeds in a than in b, leaves it undecided.

    >>> exceeds(Cell([12.0, 12.5]), Cell([9.0, 9.1])).value
    'held'
    >>> exceeds(Cell([12.0, 12.5]), Cell([9.0, 9.1]), by=5.0).value
    'did not hold'
    >>> exceeds(Cell([10.0, 12.0]), Cell([10.5, 10.5])).value, exceeds(
    ...     Cell([2.0]), Cell([1.0])
    ... ).value
    ('undecided', 'undecided')
    """
    if len(a.values) != len(b.values) or len(a.values) < 2:
        return Ruling.UNDECIDED
    found = apart(a, b)
    error = statistics.stdev(found.values) / math.sqrt(len(found.values))
    if abs(found.mean - by) <= ERRORS * error:
        return Ruling.UNDECIDED
    return Ruling.of(found.mean > by)


def all_of(rulings: Iterable[Ruling]) -> Ruling:
    """Of all: false where one is, and else undecided where one is."""
    return functools.reduce(operator.and_, rulings, Ruling.HELD)


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


def step_of(run: Record) -> str:
    """The examples of a step, for a caption.

    >>> step_of({"batch": 32, "devices": 2}), step_of({"batch": 32, "devices": 1})
    ('32 examples on each of 2 devices', '32 examples on one device')
    """
    where = "one device" if run["devices"] == 1 else f"each of {run['devices']} devices"
    return f"{run['batch']} examples on {where}"


def rates_of(rates: Mapping[str, float], titles: Mapping[str, str]) -> str:
    """Rates by what they are of, for a caption.

    >>> rates_of({"bn": 0.8, "gn": 0.4}, {"bn": "batch norm", "gn": "group norm"})
    '0.8 (batch norm), 0.4 (group norm)'
    """
    return ", ".join(f"{rate:g} ({titles[name]})" for name, rate in rates.items())
