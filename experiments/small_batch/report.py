"""The table and the figure, made from the record."""

import pathlib

from experiments import markers
from experiments.lab import figures
from experiments.lab.results import rates_of, seeds
from experiments.small_batch import results
from experiments.training.norms import TITLES


def table(record: results.Record) -> str:
    """Test errors in percent, as lines of Markdown."""
    cells = results.cells(record)
    batches = _batches(cells)
    lines = [
        "| examples per device | " + " | ".join(map(str, batches)) + " |",
        "|---" * (len(batches) + 1) + "|",
    ]
    for norm, row in cells.items():
        values = [str(row[batch]) if batch in row else "" for batch in batches]
        lines.append(f"| {TITLES[norm]} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def caption(record: results.Record) -> str:
    """What the numbers are, and where they come from."""
    first = record["runs"][0]
    count = seeds(record)
    stamp = record["stamp"]
    rates = {
        results.statistics_of(row["norm"], row["batch"])[0]: row["rate"]
        for row in record["runs"]
    }
    stated = rates_of(rates, TITLES)
    spread = "mean ± sample standard deviation" if count > 1 else "the error"
    ghosts = (
        "Ghost batches are parts of the largest batch, which is trained on throughout, "
        "and batch norm has its statistics of each. "
        if results.GHOST in rates
        else ""
    )
    return (
        f"Test error in percent on {record['dataset']}, {spread} of {count} "
        f"seed{'s' if count > 1 else ''}, each the median of the last "
        f"{results.last_epochs(first['epochs'])} of {first['epochs']} epochs of "
        f"{first['epoch_examples']:,} examples. {first['devices']} devices under "
        f"{first['parallelism']}; peak learning rate per 256 examples {stated}. "
        f"{ghosts}{stamp['device']}, jax {stamp['versions']['jax']}, "
        f"{stamp['date'][:10]}."
    )


def plain(record: results.Record) -> str:
    """The table for a terminal."""
    cells = results.cells(record)
    batches = _batches(cells)
    rows = [["examples per device", *map(str, batches)]]
    for norm, row in cells.items():
        values = [str(row[batch]) if batch in row else "" for batch in batches]
        rows.append([TITLES[norm], *values])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        row[0].ljust(widths[0])
        + "".join(f"  {v:>{w}}" for v, w in zip(row[1:], widths[1:], strict=True))
        for row in rows
    )


def outcome(record: results.Record) -> str:
    """How far each norm's error moves as the batch shrinks, and which is then better.

    In words, from the record, whatever it says.
    """
    cells = results.cells(record)
    batches = _batches(cells)
    first, last = batches[0], batches[-1]
    said = []
    if first != last:
        moves = [
            f"{_moved(row[last].mean - row[first].mean)} with {TITLES[norm]}"
            for norm, row in cells.items()
            if {first, last} <= row.keys()
        ]
        said.append(
            f"from {first} to {last} examples per device the error {', '.join(moves)}"
        )
    if {"bn", "gn"} <= cells.keys():
        ahead = cells["bn"][last].mean - cells["gn"][last].mean
        said.append(
            f"at {last} per device group norm is {abs(ahead):.1f} points "
            f"{'better' if ahead >= 0 else 'worse'} than batch norm"
        )
    words = "; ".join(said)
    return words and f"{words[0].upper()}{words[1:]}."


def _moved(points: float) -> str:
    """Says which way.

    >>> _moved(1.25), _moved(-3.0)
    ('rises by 1.2 points', 'falls by 3.0 points')
    """
    return f"{'rises' if points >= 0 else 'falls'} by {abs(points):.1f} points"


def write_readme(path: pathlib.Path, record: results.Record) -> bool:
    """Writes the table between the markers ``small_batch`` of a document."""
    return markers.replace(
        path, "small_batch", f"{table(record)}\n\n{outcome(record)}\n{caption(record)}"
    )


def figure(record: results.Record, path: pathlib.Path) -> pathlib.Path:
    """Draws error against batch, and the curves that end in it."""
    cells = results.cells(record)
    batches = _batches(cells)
    count = seeds(record)
    note = f"{count} seeds, mean ± standard deviation" if count > 1 else "1 seed"
    with figures.sheet(path) as (fig, (left, right)):
        for norm, row in cells.items():
            present = [batch for batch in batches if batch in row]
            left.errorbar(
                [batches.index(batch) for batch in present],
                [row[batch].mean for batch in present],
                yerr=[row[batch].spread or 0.0 for batch in present],
                label=TITLES[norm],
                capsize=4,
                markerfacecolor="white" if norm == "gn" else None,
                **figures.STYLES[norm],
            )
        left.set_xticks(range(len(batches)), map(str, batches))
        left.set_xlabel("batch size (examples per device)")
        left.set_ylabel("test error (%)")
        left.legend()
        left.margins(0.08)
        _curves(right, record, batches)
        fig.suptitle(f"{record['dataset']}, {note}", fontsize=9)
    return path


def _curves(axes, record: results.Record, batches: list[int]) -> None:
    """Test error by epoch, mean over seeds, at the largest and smallest batch."""
    lowest, highest = 100.0, 0.0
    for norm in results.cells(record):
        for batch in dict.fromkeys((batches[0], batches[-1])):
            curves = results.curves(record, norm, batch)
            if not curves:
                continue
            mean = [100 * sum(at) / len(at) for at in zip(*curves, strict=True)]
            lowest, highest = min(lowest, *mean), max(highest, mean[-1])
            style = figures.STYLES[norm] | {"marker": None}
            axes.plot(
                range(1, len(mean) + 1),
                mean,
                label=f"{TITLES[norm]}, {batch} per device",
                linewidth=1.0 if batch == batches[0] else 2.2,
                **style,
            )
    # The first epochs are far off and would flatten the rest.
    axes.set_ylim(0.9 * lowest, max(2.5 * lowest, 1.2 * highest))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("epoch")
    axes.set_ylabel("test error (%)")
    axes.legend()


def _batches(cells: dict[str, dict[int, results.Cell]]) -> list[int]:
    return sorted({batch for row in cells.values() for batch in row}, reverse=True)
