"""The lab record: the paper's claim about small batches, and whether it held."""

import pathlib
from collections.abc import Sequence

from experiments.lab import Experiment, Record, Verdict
from experiments.lab.results import exceeds
from experiments.small_batch import report, results
from experiments.small_batch.results import GHOST

PAPER = """
| images per GPU | 32 | 16 | 8 | 4 | 2 |
|---|---|---|---|---|---|
| batch norm | 23.6 | 23.7 | 24.8 | 27.3 | 34.7 |
| group norm | 24.1 | 24.2 | 24.0 | 24.2 | 24.1 |

ResNet-50 on ImageNet, validation error in percent. Batch renormalisation at 4: 26.3.
"""
NOTES = """
The same epochs are 16 times fewer steps at 32 examples per device than at 2, and 10,000
images give few steps to begin with: every norm gains from the steps of a small batch,
and what batch norm loses to its noise has to be seen against what group norm gains.
Ghost batches (Hoffer et al., arXiv:1705.08741) take that apart: the batch stays at 32
per device, and so do the steps, while batch norm takes its statistics of 16, 8, 4 or 2
of the 32. `--norms bn sync gn` adds a line for batch norm with the statistics of all
devices.
"""


def run(argv: Sequence[str]) -> int:
    """`python -m experiments.small_batch` by another name."""
    from experiments.small_batch import __main__ as command

    return command.main(argv)


def verdicts(record: Record) -> list[Verdict]:
    """By means over seeds, as `exceeds` tells them apart."""
    cells = results.cells(record)
    bn, gn = cells["bn"], cells["gn"]
    ghost = cells.get(GHOST, {})
    largest, least = max(bn), min(bn)
    moves = {
        norm: c[least].mean - c[largest].mean
        for norm, c in cells.items()
        if {least, largest} <= c.keys()
    }
    found = [
        Verdict(
            "batch norm's error rises as the batch shrinks to 2",
            "+11.1 points",
            f"{moves['bn']:+.1f} points",
            exceeds(bn[least], bn[largest]),
        ),
        Verdict(
            "group norm's does not",
            "+0.0 points",
            f"{moves['gn']:+.1f} points",
            not exceeds(gn[least], gn[largest]),
        ),
        Verdict(
            "at 2 per device group norm is better",
            "24.1 against 34.7%",
            f"{gn[least]} against {bn[least]}%",
            exceeds(bn[least], gn[least]),
        ),
        Verdict(
            "at 32 per device batch norm is slightly better",
            "23.6 against 24.1%",
            f"{bn[largest]} against {gn[largest]}%",
            exceeds(gn[largest], bn[largest]),
        ),
    ]
    if GHOST in moves:
        found.append(
            Verdict(
                "batch norm's error rises with statistics of 2 in steps of 32",
                "not measured",
                f"{moves[GHOST]:+.1f} points",
                exceeds(ghost[least], ghost[largest]),
            )
        )
    return found


EXPERIMENT = Experiment(
    name="small_batch",
    title="batch norm and group norm as the batch shrinks",
    source="figures 1 and 5, table 2",
    paper=PAPER,
    folder=pathlib.Path(__file__).parent,
    run=run,
    table=report.table,
    caption=report.caption,
    verdicts=verdicts,
    figure=report.figure,
    minutes=28,
    memory_gb=1.2,
    size="full",
    options="--full --norms bn ghost gn",
    notes=NOTES,
)
