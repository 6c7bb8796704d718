"""The lab record: what a step costs, and what small batches do to its gradient.

python -m experiments analysis --quick
python -m experiments analysis
"""

import argparse
import dataclasses
import pathlib
import time
from collections.abc import Sequence

from experiments.analysis import report
from experiments.lab import Experiment, Record

PAPER = """
The paper says why batch norm fails at small batches, "inaccurate batch statistics
estimation" (section 1), without measuring it, and gives no times or bytes.
"""
NOTES = """
Times are those of XLA on a CPU; on accelerators a norm costs passes over memory, which
`docs/performance.md` counts.

The machine was busy with other work while the record was made: milliseconds differ from
row to row by more than the norms do, and only the ratio, which is taken within rounds,
and the bytes can be relied on.
"""


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is measured."""

    widths: tuple[int, ...]
    steps: tuple[int, ...]  # examples in a step
    seconds: float  # for each comparison of norms
    batches: tuple[int, ...]  # that the gradient is cut into
    examples: int
    cuts: int
    epochs: int


SIZES = {
    "default": Size((64,), (32,), 8.0, (32, 16, 8, 4, 2), 512, 16, 2),
    "quick": Size((16,), (2,), 1.0, (32, 2), 64, 2, 1),
}


def run(argv: Sequence[str]) -> int:
    """Runs the experiment with a command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments analysis",
        description="Measures time and memory of a training step with each norm, and "
        "how far batch norm's gradient is off as the batch shrinks.",
        allow_abbrev=False,
    )
    parser.add_argument("--quick", action="store_true", help="one case of each")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("runs") / "analysis"
    )
    args = parser.parse_args(argv)
    work("quick" if args.quick else "default", args.out)
    return 0


def work(size_name: str, out: pathlib.Path) -> Record:
    """Measures, and writes record and figure."""
    from experiments import data, records
    from experiments.analysis import noise, steps
    from experiments.lab import session

    size = SIZES[size_name]
    dataset = data.load("fashion-mnist-subset")
    began = time.monotonic()
    record: Record = {
        "dataset": dataset.name,
        "size": size_name,
        "stamp": records.stamp("optax"),
        "steps": steps.measure(dataset, size.steps, size.widths, size.seconds),
        "noise": noise.measure(
            dataset,
            size.batches,
            examples=size.examples,
            cuts=size.cuts,
            epochs=size.epochs,
        ),
    }
    record["seconds"] = round(time.monotonic() - began, 1)
    record["memory_gb"] = round(session.peak_memory_gb(), 2)
    return session.finish(out, record, figure=report.figure, tell=report.table)


EXPERIMENT = Experiment(
    name="analysis",
    title="what a step costs with each norm, and the noise of batch statistics",
    source="section 1",
    paper=PAPER,
    folder=pathlib.Path(__file__).parent,
    run=run,
    table=report.table,
    caption=report.caption,
    verdicts=report.verdicts,
    figure=report.figure,
    minutes=4,
    memory_gb=1.0,
    notes=NOTES,
)
