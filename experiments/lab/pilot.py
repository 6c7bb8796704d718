"""How long to train: the error of one of an experiment's norms by its steps.

    python -m experiments search norms --pilot

trains it at several lengths, each twice the one before and with a rate that falls to
zero at its end, on training data of which a part is held out for the error. The page
says from the committed pilot where the curve is flat, and whether the experiment's
record lies there.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence

from experiments.lab.experiment import Record
from experiments.training.config import Config

# Points that twice the steps take off the error where the curve is called flat. Of
# 2,000 images 1 point is 20, little more than what another seed changes.
FLAT = 1.0
_FOLDER = pathlib.Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Pilot:
    """Of one norm of an experiment.

    Attributes:
      norm: by the name that the experiment's ``trial`` takes.
      title: for the page.
      epochs: that are tried.
      rated: the norm whose searched rate it takes; "" for its own.
      measure: what falls, for the page.
    """

    norm: str
    title: str
    epochs: tuple[int, ...]
    rated: str = ""
    measure: str = "error"


PILOTS: Mapping[str, tuple[Pilot, ...]] = {
    "norms": (Pilot("ln", "layer norm", (5, 10, 20, 40, 80)),),
    "groups": (Pilot("groups1", "one group", (8, 16, 32, 64, 128), rated="groups32"),),
    "depth": (
        Pilot("resnet-gn", "ResNet-20, group norm", (5, 10, 20, 40)),
        Pilot("vgg-gn", "VGG, group norm", (5, 10, 20, 40)),
    ),
    "finetune": (Pilot("gn+ws", "group norm, weights standardised", (1, 2, 4, 8, 16)),),
    "detection": (Pilot("gn", "group norm", (15, 30, 60, 120), measure="100 - AP"),),
}


def path(experiment: str, norm: str) -> pathlib.Path:
    """The record of a pilot."""
    return _FOLDER / experiment / "results" / "pilot" / f"{norm}.json"


def told(experiment: str, record: Record) -> list[tuple[str, str]]:
    """The pilots of an experiment, each a table and a sentence of Markdown.

    Args:
      experiment: by name; one without a committed pilot gives nothing.
      record: of the experiment.
    """
    found = []
    for of in PILOTS.get(experiment, ()):
        if (file := path(experiment, of.norm)).exists():
            rows = json.loads(file.read_text())["results"]
            found.append((table(of, rows), sentence(rows, _steps(record, rows[0]))))
    return found


def table(of: Pilot, rows: Sequence[Record]) -> str:
    """The error by the number of steps, as lines of Markdown."""
    steps = [f"{Config(**row['config']).steps:,}" for row in rows]
    errors = [f"{100 * row['error']:.1f}" for row in rows]
    return "\n".join(
        (
            "| pilot: steps | " + " | ".join(steps) + " |",
            "|---" * (len(rows) + 1) + "|",
            f"| {of.title}: {of.measure} | " + " | ".join(errors) + " |",
        )
    )


def sentence(rows: Sequence[Record], steps: int) -> str:
    """Where the curve is flat, and whether runs of so many steps lie there."""
    lengths = [Config(**row["config"]).steps for row in rows]
    errors = [100 * row["error"] for row in rows]
    start = flat_from(lengths, errors)
    if start is None:
        return (
            f"The curve has not flattened: the last doubling, to "
            f"{lengths[-1]:,} steps, still takes {errors[-2] - errors[-1]:.1f} points "
            f"off. The record's {steps:,} steps are not shown to be enough."
        )
    where = "lie there" if steps >= start else "end before that"
    return (
        f"From {start:,} steps on, twice as many take less than {FLAT:g} point off; "
        f"the record's {steps:,} steps {where}."
    )


def flat_from(steps: Sequence[int], errors: Sequence[float]) -> int | None:
    """The least length from which on every doubling takes less than `FLAT` off.

    >>> flat_from([10, 20, 40, 80], [20.0, 15.0, 13.0, 12.5])
    40
    >>> flat_from([10, 20, 40], [20.0, 15.0, 13.0]) is None
    True
    """
    start = None
    for place in range(len(steps) - 2, -1, -1):
        if errors[place] - errors[place + 1] >= FLAT:
            break
        start = steps[place]
    return start


def _steps(record: Record, row: Record) -> int:
    """Of the record's runs of what the pilot trained."""
    alike = ("norm", "network", "batch")
    of = [row["config"][name] for name in alike]
    names = [field.name for field in dataclasses.fields(Config)]
    return min(
        Config(**{name: run[name] for name in names if name in run}).steps
        for run in record["runs"]
        if [run[name] for name in alike] == of
    )
