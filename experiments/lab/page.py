"""experiments/README.md: what the paper claims, and what came out here."""

import itertools
import pathlib
import textwrap
from collections.abc import Iterator, Sequence

from experiments.lab import pilot
from experiments.lab.experiment import Experiment, Record, Ruling, Verdict

PATH = pathlib.Path(__file__).parents[1] / "README.md"

_TITLE = """\
# The paper, reproduced

<!-- Written by `python -m experiments report` from the committed records. -->
"""
_HEAD = """\
The claims of "Group Normalization" (Wu & He, ECCV 2018), each tested at a size that two
CPU cores can afford, with the paper's numbers beside ours. `python -m experiments`
lists the experiments with their time and memory, `python -m experiments NAME` runs one,
with `--quick` in a minute or so, and `python -m experiments report` rebuilds this page
and every figure from the records. Bigger public sets, such as CIFAR-100, COCO or
Kinetics, are [one flag away](../docs/datasets.md).

The sizes are far below the paper's, so the numbers do not compare one by one. What can
be compared is who wins, and what grows when something shrinks. Whether a claim held is
computed from the record by the experiment's `verdicts`: held, did not hold or
undecided. Differences are taken between runs of the same seed, and their mean decides
when it is larger than twice its standard error, to one side or to the other.

Where there is a pilot it trained a norm that is slow to learn at several lengths, one
seed, with its rate falling to zero at the end of each, and was judged on training
data that it did not train on (`python -m experiments search NAME --pilot`), in percent.
"""


def render(experiments: Sequence[Experiment]) -> str:
    """The page. Experiments without a committed record are named as such."""
    found = [(experiment, experiment.record()) for experiment in experiments]
    done = [(experiment, record) for experiment, record in found if record is not None]
    parts = [_TITLE, _counts(done), _HEAD, _accelerator(experiments), _summary(done)]
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
        *_on_an_accelerator(experiment),
        *_piloted(experiment, record),
        _paragraphs(experiment.notes),
        _wrapped(_source(experiment, record)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _on_an_accelerator(experiment: Experiment) -> list[str]:
    record = experiment.record("paper")
    if record is None:
        return []
    return [
        "On an accelerator, by `python -m experiments paper`:",
        experiment.table(record),
        _wrapped(experiment.caption(record)),
    ]


def _piloted(experiment: Experiment, record: Record) -> list[str]:
    found = pilot.told(experiment.name, record)
    return [part for table, sentence in found for part in (table, _wrapped(sentence))]


def _accelerator(experiments: Sequence[Experiment]) -> str:
    """Which parts of `python -m experiments paper` have run, and which have not."""
    from experiments import paper

    ran = [e.name for e in experiments if e.record(paper.SIZE)]
    missing = [part.name for part in paper.PARTS if part.name not in ran]
    told = (
        "`python -m experiments paper` runs "
        f"{', '.join(part.name for part in paper.PARTS)} on one accelerator, with the "
        "paper's eight devices as an axis of one program. What it has run stands in "
        "the last column"
    )
    told += f"; not run there yet: {', '.join(missing)}." if missing else "."
    return _wrapped(told) + "\n"


def _summary(done: Sequence[tuple[Experiment, Record]]) -> str:
    lines = [
        "| experiment | claim of the paper | paper | here | verdict | accelerator |",
        "|---|---|---|---|---|---|",
    ]
    for experiment, record in done:
        verdicts = experiment.verdicts(record)
        lines += [
            f"| [{experiment.name}](#{_anchor(experiment)}) | {v.claim} | {v.paper} | "
            f"{v.ours} | {_marked(v.ruling)} | {there} |"
            for v, there in zip(verdicts, _accelerated(experiment), strict=False)
        ]
    return "\n".join(lines) + "\n"


def _counts(done: Sequence[tuple[Experiment, Record]]) -> str:
    rulings = [
        v.ruling for experiment, record in done for v in experiment.verdicts(record)
    ]
    counted = ", ".join(f"{rulings.count(ruling)} {ruling.value}" for ruling in Ruling)
    return f"Of {len(rulings)} claims that were tested: **{counted}**.\n"


def _accelerated(experiment: Experiment) -> Iterator[str]:
    """The numbers of `python -m experiments paper`, in the order of the verdicts."""
    record = experiment.record("paper")
    found = experiment.verdicts(record) if record else []
    return itertools.chain((verdict.ours for verdict in found), itertools.repeat(""))


def _marked(ruling: Ruling) -> str:
    return ruling.value if ruling is Ruling.HELD else f"**{ruling.value}**"


def _line(verdict: Verdict) -> str:
    said = verdict.ruling.value.capitalize()
    marked = said if verdict.ruling is Ruling.HELD else f"**{said}**"
    line = f"{marked}: {verdict.claim}: {verdict.ours} (paper: {verdict.paper})."
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
