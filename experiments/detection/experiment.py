"""The lab record: detection at one and two pictures per device, and what came out."""

import pathlib
import statistics
from collections.abc import Sequence

from experiments import lab
from experiments.detection import recipe, report
from experiments.lab import Record, Verdict, options

PROG = "python -m experiments detection"
PAPER = """
| Mask R-CNN on COCO, box AP | frozen batch norm (BN*) | group norm |
|---|---|---|
| C4 backbone | 37.7 | 38.8 |
| FPN backbone | 38.6 | 40.3 |

One or two images per GPU. Batch norm that is not frozen loses about 6 points of AP at 2
images per GPU.
"""
NOTES = """
TO BE WRITTEN
"""


def run(argv: Sequence[str]) -> int:
    """Runs the experiment from a command line."""
    from experiments.detection import session

    command = lab.Command(
        prog=PROG,
        description="Trains a detector of trees on one site at 16 tiles per device, "
        "then on another at one or two, with batch norm frozen, batch norm and group "
        "norm, and ends with a record and a figure. The pictures come by: python -m "
        "experiments.data trees",
        norms=recipe.NORMS,
        choices=recipe.NORMS,
        sizes=recipe.SIZES,
        out=pathlib.Path("runs") / "detection",
        quick="one batch size, two epochs",
        datasets=(),
    )
    asked = options.parse(argv, command)
    return lab.conduct(session.run, asked, argv, PROG)


def verdicts(record: Record) -> list[Verdict]:
    """A norm is better if it is so by more than the standard error of the difference.

    The differences are those of runs of the same seed, which start from weights trained
    on the same tiles and are fine-tuned on the same tiles.
    """
    cells = report.by_norm(record, "ap")
    found = []
    for batch in report.batches(record):
        gn, frozen, bn = (cells[norm][batch] for norm in ("gn", "frozen", "bn"))
        found += [
            Verdict(
                f"at {batch} per device group norm has more AP than frozen batch norm",
                "40.3 against 38.6% (FPN)",
                f"{gn} against {frozen}%",
                exceeds(gn.values, frozen.values),
            ),
            Verdict(
                f"at {batch} per device batch norm that is not frozen has less AP than "
                "frozen batch norm",
                "about 6 points less (at 2)",
                f"{bn} against {frozen}%",
                exceeds(frozen.values, bn.values),
            ),
        ]
    return found


def exceeds(more: Sequence[float], less: Sequence[float]) -> bool:
    """Whether the mean difference is above its standard error; above 0 for one pair.

    >>> exceeds([3.0, 4.0, 5.0], [2.0, 2.0, 2.0]), exceeds([3.0, 1.0], [2.0, 2.0])
    (True, False)
    """
    differences = [a - b for a, b in zip(more, less, strict=True)]
    error = 0.0
    if len(differences) > 1:
        error = statistics.stdev(differences) / len(differences) ** 0.5
    return statistics.fmean(differences) > error


EXPERIMENT = lab.Experiment(
    name="detection",
    title="detection at one and two pictures per device",
    source="section 4.2",
    paper=PAPER,
    folder=pathlib.Path(__file__).parent,
    run=run,
    table=report.table,
    caption=report.caption,
    verdicts=verdicts,
    figure=report.figure,
    minutes=20,
    memory_gb=1.5,
    notes=NOTES,
)
