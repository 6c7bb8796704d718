"""experiments/README.md: what the paper claims, and what came out here."""

import pathlib
import textwrap
from collections.abc import Sequence

from experiments.lab.experiment import Experiment, Record, Verdict

PATH = pathlib.Path(__file__).parents[1] / "README.md"

_HEAD = """\
# The paper, reproduced

<!-- Written by `python -m experiments report` from the committed records. -->

The claims of "Group Normalization" (Wu & He, ECCV 2018), each tested at a size that two
CPU cores can afford, with the paper's numbers beside ours. `python -m experiments`
lists the experiments with their time and memory, `python -m experiments NAME` runs one,
with `--quick` in a minute or so, and `python -m experiments report` rebuilds this page
and every figure from the records. Bigger public sets, such as CIFAR-100, COCO or
Kinetics, are [one flag away](../docs/datasets.md).

The sizes are far below the paper's, so the numbers do not compare one by one. What can
be compared is who wins, and what grows when something shrinks. Whether a claim held is
computed from the record by the experiment's `verdicts`; a difference between means over
seeds counts when it is larger than its standard error.
"""


def render(experiments: Sequence[Experiment]) -> str:
    """The page. Experiments without a committed record are named as such."""
    found = [(experiment, experiment.record()) for experiment in experiments]
    done = [(experiment, record) for experiment, record in found if record is not None]
    parts = [_HEAD, _summary(done)]
    parts += [section(experiment, record) for experiment, record in done]
    missing = [experiment.name for experiment, record in found if record is None]
    if missing:
        parts.append(f"Not run yet: {', '.join(missing)}.\n")
    return "\n".join(parts)


def section(experiment: Experiment, record: Record) -> str:
    """The part of the page on one experiment."""
    picture = experiment.picture.relative_to(PATH.parent)
    parts = [
        f"## {experiment.name}: {experiment.title}",
        f"Paper, {experiment.source}:",
        experiment.paper.strip(),
        "Here:",
        experiment.table(record),
        _wrapped(experiment.caption(record)),
        f"![{experiment.title}]({picture})",
        "\n".join(_line(verdict) for verdict in experiment.verdicts(record)),
        _paragraphs(experiment.notes),
        _wrapped(_source(experiment, record)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _summary(done: Sequence[tuple[Experiment, Record]]) -> str:
    lines = [
        "| experiment | claim of the paper | paper | here | held |",
        "|---|---|---|---|---|",
    ]
    for experiment, record in done:
        lines += [
            f"| [{experiment.name}](#{_anchor(experiment)}) | {v.claim} | {v.paper} | "
            f"{v.ours} | {'yes' if v.held else '**no**'} |"
            for v in experiment.verdicts(record)
        ]
    return "\n".join(lines) + "\n"


def _line(verdict: Verdict) -> str:
    said = "Held" if verdict.held else "**Did not hold**"
    line = f"{said}: {verdict.claim}: {verdict.ours} (paper: {verdict.paper})."
    return textwrap.fill(
        line,
        88,
        initial_indent="- ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _source(experiment: Experiment, record: Record) -> str:
    stamp = record["stamp"]
    seconds = record.get("seconds") or sum(run["seconds"] for run in record["runs"])
    memory = record.get("memory_gb")
    commit = f", commit {stamp['commit']}" if stamp.get("commit") else ""
    return (
        f"`{experiment.command}`: {seconds / 60:.0f} minutes"
        + (f" and {memory:.1f} GB" if memory else "")
        + f" on {stamp['device']}, {stamp['processor']} with {stamp['cores']} cores; "
        f"jax {stamp['versions']['jax']}, {stamp['date'][:10]}{commit}. "
        f"[Record]({experiment.path.relative_to(PATH.parent)})."
    )


def _anchor(experiment: Experiment) -> str:
    """As GitHub and mkdocs make it of a heading.

    >>> import types
    >>> _anchor(types.SimpleNamespace(name="a_b", title="What, and why?"))
    'a_b-what-and-why'
    """
    heading = f"{experiment.name}: {experiment.title}".lower()
    kept = "".join(c for c in heading if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")


def _paragraphs(text: str) -> str:
    return "\n\n".join(_wrapped(part) for part in text.strip().split("\n\n"))


def _wrapped(text: str) -> str:
    return textwrap.fill(
        " ".join(text.split()), 88, break_long_words=False, break_on_hyphens=False
    )
