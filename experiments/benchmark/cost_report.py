"""The table of what a norm costs before it runs, from the record."""

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from experiments.benchmark import cost, cost_networks, report

# What is aimed at: the most that ours may take for each of flax.linen's.
AIMS = {
    "cpu": {"trace": 1.2, "compile": 1.25, "hlo": 1.3},
    "h100": {"trace": 1.25, "compile": 1.25, "hlo": 1.25},
    "v5e": {"trace": 1.25, "compile": 1.25, "hlo": 1.25},
}
# The columns of ratios, each a sum of stages or a length of the program.
_COLUMNS = {
    "trace": "trace",
    "lower": "lowering",
    "trace lower": "both",
    "compile": "compile",
    "stablehlo": "StableHLO",
    "hlo": "HLO",
    "kernels": "kernels",
}
_NAMES = {"trace": "trace", "compile": "compile time", "hlo": "HLO"}
_TARGETS = {"cpu": "a CPU", "h100": "an H100", "v5e": "a v5e"}
Pair = tuple[cost.Row, cost.Row]


def ratio(pair: Pair, column: str) -> float:
    """Ours over flax.linen's; of times the median over rounds, paired within them."""
    stages = [stage for stage in column.split() if stage in cost.STAGES]
    if not stages:
        ours, linen = (getattr(row.size, column) for row in pair)
        return ours / linen
    ours, linen = (
        [
            sum(parts)
            for parts in zip(*(getattr(row, stage) for stage in stages), strict=True)
        ]
        for row in pair
    )
    return statistics.median(a / b for a, b in zip(ours, linen, strict=True))


def pairs(rows: Sequence[cost.Row]) -> Iterator[Pair]:
    """Ours and flax.linen's of the same program."""
    linen = {_program(row): row for row in rows if row.norm == "flax.linen"}
    for row in rows:
        if row.norm == "flax_gn":
            yield row, linen[_program(row)]


def _program(row: cost.Row) -> tuple[str, ...]:
    return row.target, row.network, row.mode


def table(record: dict[str, Any]) -> str:
    """Ratios, where each was made, and which of the aims hold."""
    stamps, rows = cost.parse(record)
    lines = report.head(
        "flax_gn over flax.linen",
        ["for", "norms, of shapes", *_COLUMNS.values(), "seconds, ours and flax.linen"],
    )
    for pair in pairs(rows):
        ours = pair[0]
        cells = [
            f"{cost_networks.NETWORKS[ours.network].title}, {ours.mode}",
            f"{_TARGETS[ours.target]}, {ours.dtype}",
            f"{ours.norms}, {ours.shapes}",
            *(_cell(pair, column) for column in _COLUMNS),
            " and ".join(f"{_seconds(row):.1f}" for row in pair),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    said = [_aims(target, list(pairs(rows))) for target in stamps]
    made = [
        f"for {_TARGETS[target]} {_rounds(rows, target)} on {_machine(stamp)}"
        for target, stamp in stamps.items()
    ]
    source = (
        f"Medians {'; '.join(made)}; `JAX_PLATFORMS=cpu python -m "
        "experiments.benchmark.cost`."
    )
    return "\n".join([*lines, "", " ".join(said), "", source])


def _rounds(rows: Sequence[cost.Row], target: str) -> str:
    found = sorted({len(row.trace) for row in rows if row.target == target})
    return f"over {' or '.join(map(str, found))} round{'s' * (found != [1])}"


def _cell(pair: Pair, column: str) -> str:
    """In bold where it is aimed at and missed."""
    value = ratio(pair, column)
    missed = value > AIMS[pair[0].target].get(column, value)
    return f"**{value:.2f}**" if missed else f"{value:.2f}"


def _seconds(row: cost.Row) -> float:
    return sum(statistics.median(getattr(row, stage)) for stage in cost.STAGES)


def _aims(target: str, found: Sequence[Pair]) -> str:
    """What is aimed at for a target, what holds, and how far off the rest is."""
    here = [pair for pair in found if pair[0].target == target]
    said = []
    for column, aim in AIMS[target].items():
        values = [ratio(pair, column) for pair in here]
        over = [value for value in values if value > aim]
        what = f"{_NAMES[column]} at most {aim:g} times"
        if over:
            held = len(values) - len(over)
            what += f" ({held} of {len(values)} hold, at most {max(over):.2f})"
        else:
            what += f" (all {len(values)} hold)"
        said.append(what)
    *first, last = said
    return f"Aimed at for {_TARGETS[target]}: {', '.join(first)} and {last}."


def _machine(stamp: dict[str, Any]) -> str:
    versions = stamp["versions"]
    named = [
        f"{name} {versions[name]}"
        for name in ("jax", "flax", "libtpu", "jax-cuda13-plugin")
        if name in versions
    ]
    return (
        f"{stamp['processor']}, {stamp['cores']} cores, {', '.join(named)}, "
        f"{stamp['date'][:10]}, commit {stamp['commit']}"
    )
