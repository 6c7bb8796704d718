"""Tables and the plot, made from a benchmark's record."""

import json
import math
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from experiments.benchmark import contenders
from experiments.benchmark.measure import Result
from experiments.benchmark.steps import StepResult

T = TypeVar("T", Result, StepResult)

RESULTS = pathlib.Path(__file__).with_name("results")
_FLOORS = {name for name, one in contenders.ALL.items() if one.floor_step is not None}
# Close to one that is drawn, or dominated by it.
_NOT_DRAWN = {"flax_gn reference", "flax.linen two-pass", "scale and shift"}
TITLES = {"forward": "forward", "step": "forward + backward"}
Row = dict[str, Any]


def case_lines(results: Sequence[Result]) -> str:
    """One line per contender, fastest first."""
    lines = [
        f"  {r.contender:28} {1e3 * seconds:9.3f} ms"
        + _maybe("  {:5.2f} x flax.linen", r.times_linen)
        + _maybe("  {:4.0%} of copy", r.share_of_copy)
        + _maybe("  moved {:5.2f}|x|", r.moved)
        + _maybe("  kept {:4.2f}|x|", r.kept)
        for seconds, r in _fastest_first(results)
    ]
    lines += [f"  {r.contender:28} failed: {r.error}" for r in results if r.error]
    return "\n".join(lines)


def _fastest_first(
    results: Sequence[T],
) -> list[tuple[float, T]]:
    timed = [(r.seconds, r) for r in results if r.seconds is not None]
    return sorted(timed, key=lambda pair: pair[0])


def step_lines(results: Sequence[StepResult]) -> str:
    """One line per contender, fastest first."""
    lines = [
        f"  {r.contender:28} {1e3 * seconds:9.1f} ms"
        + _maybe("  {:5.2f} x flax.linen", r.times_linen)
        + _maybe("  temporaries {:7.1f} MB", _mega(r.temporaries))
        + _maybe("  kept {:7.1f} MB", _mega(r.kept))
        for seconds, r in _fastest_first(results)
    ]
    lines += [f"  {r.contender:28} failed: {r.error}" for r in results if r.error]
    return "\n".join(lines)


def _mega(count: int | None) -> float | None:
    return None if count is None else count / 1e6


def _maybe(form: str, value: float | None) -> str:
    return "" if value is None else form.format(value)


def geometric_mean(values: Iterable[float]) -> float:
    """The exponential of the mean logarithm."""
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values))


def groups(record: Row) -> dict[tuple[str, str, str], list[Row]]:
    """Timed results by (contender, mode, dtype)."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in record["results"]:
        if row["seconds"] is not None:
            key = row["contender"], row["mode"], row["dtype"]
            found.setdefault(key, []).append(row)
    return found


def _names(found: dict[tuple[str, str, str], list[Row]]) -> list[str]:
    """The contenders but flax.linen, which is 1 everywhere; the floors last."""
    names = dict.fromkeys(name for name, _, _ in found if name != "flax.linen")
    return sorted(names, key=_FLOORS.__contains__)


def summary(record: Row) -> str:
    """Geometric means over cases, and the worst case, for each contender."""
    head = ("contender", "mode", "dtype", "cases", "x flax.linen", "worst", "on")
    lines = ["  ".join(head)]
    for (contender, mode, dtype), rows in groups(record).items():
        rows = [row for row in rows if row["times_linen"] is not None]
        if not rows:
            continue
        worst = min(rows, key=lambda row: row["times_linen"])
        mean = geometric_mean(row["times_linen"] for row in rows)
        lines.append(
            f"{contender:28} {mode:8} {dtype:9} {len(rows):3} {mean:6.2f} "
            f"{worst['times_linen']:6.2f}  {worst['layer']} {worst['activation']}"
        )
    return "\n".join(lines)


def load(path: pathlib.Path) -> Row:
    """Reads a record."""
    return json.loads(path.read_text())


def figure(path: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """Draws a record: times over flax.linen's, for each layer."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    record = load(path)
    found = groups(record)
    panels = sorted({(mode, dtype) for _, mode, dtype in found})
    names = [name for name in _names(found) if name not in _NOT_DRAWN]
    # A panel may lack some, which took too much memory.
    cases = list(
        dict.fromkeys((r["layer"], r["activation"]) for r in record["results"])
    )
    rows = (len(panels) + 1) // 2
    fig, axes = plt.subplots(
        rows,
        2,
        figsize=(9, 1.5 + rows * max(3.5, 0.12 * len(cases))),
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    styles = ["o-", "s--", "^:", "x-.", "d-", "v--", "+:", "*-.", "p-", "h--", "<:"]
    for ax, (mode, dtype) in zip(axes.flat, panels, strict=False):
        for number, name in enumerate(names):
            ratios = {
                (row["layer"], row["activation"]): row["times_linen"]
                for row in found.get((name, mode, dtype), [])
            }
            ax.plot(
                [ratios.get(case, math.nan) for case in cases],
                range(len(cases)),
                styles[number % len(styles)],
                label=name,
                markersize=4,
                linewidth=0.8,
            )
        ax.axvline(1, color="black", linewidth=1)
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_yticks(range(len(cases)))
        labels = [f"{a} + {b}" if b != "none" else a for a, b in cases]
        ax.set_yticklabels(labels, fontsize=6)
        ax.set_xlabel("times as fast as flax.linen")
        ax.set_title(f"{mode}, {dtype}", fontsize=9)
        ax.grid(alpha=0.3, which="both")
    fig.suptitle(machine(record), fontsize=8)
    fig.legend(
        *axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncol=4
    )
    fig.savefig(out, dpi=90)
    plt.close(fig)
    return out


def machine(record: Row) -> str:
    """Where and when a record was made, in a line."""
    return (
        f"{record['processor']}, {record['cores']} cores, {record['device']}; "
        f"jax {record['versions']['jax']}, flax {record['versions']['flax']}; "
        f"{record['date'][:10]}"
    )


def head(first: str, titles: Sequence[str]) -> list[str]:
    """The head of a table: words, and columns of numbers."""
    names = " | ".join([first, *titles])
    return [f"| {names} |", "|---|" + "---:|" * len(titles)]


def layers_table(record: Row) -> str:
    """Times beside those of flax.linen, over all layers."""
    found = groups(record)
    columns = [
        (mode, dtype)
        for dtype in ("float32", "bfloat16")
        for mode in ("forward", "step")
    ]
    titles = [f"{TITLES[mode]}, {dtype}" for mode, dtype in columns]
    lines = head("times as fast as flax.linen", titles)
    for name in _names(found):
        cells = []
        for mode, dtype in columns:
            rows = [
                row["times_linen"]
                for row in found.get((name, mode, dtype), [])
                if row["times_linen"] is not None
            ]
            cells.append(
                f"{geometric_mean(rows):.2f} ({min(rows):.2f} to {max(rows):.2f})"
                if rows
                else "-"
            )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    cases = len({(r["layer"], r["activation"]) for r in record["results"]})
    source = (
        f"Geometric mean over {cases} layers, with the least and the most. "
        f"{machine(record)}; `{record['command']}`."
    )
    return "\n".join([*lines, "", source])


def steps_table(record: Row) -> str:
    """Whole training steps: time, and memory kept for the backward pass."""
    rows = [row for row in record["steps"] if row["seconds"] is not None]
    columns = list(dict.fromkeys((row["network"], row["dtype"]) for row in rows))
    titles = [f"{network}, {dtype}" for network, dtype in columns]
    first = "step: times as fast as flax.linen; MB kept for the backward pass"
    lines = head(first, titles)
    for name in dict.fromkeys(row["contender"] for row in rows):
        found = {
            (row["network"], row["dtype"]): row
            for row in rows
            if row["contender"] == name
        }
        cells = [_step_cell(found.get(column)) for column in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"{machine(record)}; `{record['command']}`."])


def _step_cell(row: Row | None) -> str:
    if row is None:
        return "-"
    return f"{row['times_linen']:.2f}; {row['kept'] / 1e6:.0f}"
