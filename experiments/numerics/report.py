"""Tables and the plot, made from a record."""

import json
import math
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

from experiments import markers
from experiments.numerics import cases, peers

RECORD = pathlib.Path(__file__).with_name("results") / "cpu.json"
Row = dict[str, Any]

_VALUES = 8192  # in a group of `cases.by_mean`


def load(path: pathlib.Path) -> Row:
    """Reads a record."""
    return json.loads(path.read_text())


def select(record: Row, **wanted: Any) -> list[Row]:
    """The results whose fields have these values."""
    return [
        row
        for row in record["results"]
        if all(row[name] == value for name, value in wanted.items())
    ]


def number(value: float) -> str:
    """A mean or a size as it stands in a table.

    >>> number(0.0), number(10.0), number(1000.0), number(2)
    ('0', '10', '1e3', '2')
    """
    if value < 1000:
        return f"{value:g}"
    exponent = math.log10(value)
    return f"1e{exponent:.0f}" if exponent.is_integer() else f"{value:g}"


def error(value: float) -> str:
    """An error with two digits.

    >>> error(1.234e-7), error(0.25), error(320.4), error(0.0)
    ('1.2e-7', '0.25', '320', '0')
    """
    if value == 0 or 0.1 <= value < 1000:
        return f"{float(f'{value:.2g}'):g}"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}e{int(exponent)}"


def _error(row: Row, field: str = "y") -> str:
    if row[field] is not None:
        return error(row[field])
    return "not finite" if (row["failed"] or "").endswith("not finite") else "fails"


def _table(corner: str, cells: Iterable[tuple[str, float, str]]) -> str:
    """A table of (row, column, text), rows as they come and columns sorted."""
    rows: dict[str, dict[float, str]] = {}
    for row, column, text in cells:
        rows.setdefault(row, {})[column] = text
    columns = sorted({column for texts in rows.values() for column in texts})
    lines = [
        f"| {corner} | " + " | ".join(map(number, columns)) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for row, texts in rows.items():
        line = " | ".join(texts.get(column, "-") for column in columns)
        lines.append(f"| {row} | {line} |")
    return "\n".join(lines)


def _by_mean(record: Row, dtype: str) -> str:
    rows = select(record, dtype=dtype, values=_VALUES, outlier=None)
    return _table(
        "mean / deviation", ((row["peer"], row["mean"], _error(row)) for row in rows)
    )


def _by_size(record: Row, mean: float) -> str:
    return _table(
        "values in a group",
        (
            (row["peer"], row["values"], _error(row))
            for row in select(record, dtype="float32", mean=mean)
            if row["values"] != _VALUES
        ),
    )


def _outliers(record: Row) -> str:
    return _table(
        "outlier, mean / deviation",
        (
            (f"{row['outlier']}, {row['peer']}", row["mean"], _error(row))
            for row in select(record, values=_VALUES)
            if row["outlier"]
        ),
    )


def _gradients(record: Row) -> str:
    return _table(
        "gradient, mean / deviation",
        (
            (f"{field}, {row['peer']}", row["mean"], _error(row, field))
            for field in ("dx", "dgamma")
            for row in select(record, dtype="float32", values=_VALUES, outlier=None)
            if row["peer"] in peers.WITH_GRADIENTS
        ),
    )


def _source(record: Row) -> str:
    versions = record["versions"] | {"torch": record["torch"]}
    named = ", ".join(
        f"{name} {versions[name]}"
        for name in ("jax", "flax", "dm-haiku", "equinox", "keras", "torch")
        if versions.get(name)
    )
    return (
        f"{record['processor']}, {record['device']}; {named}; {record['date'][:10]}; "
        f"`{record['command']}`."
    )


def headline(record: Row) -> str:
    """One sentence: the errors at a mean of 1000 deviations, beside flax.linen's."""
    wanted = {"dtype": "float32", "values": _VALUES, "outlier": None}
    ours, linen, two_pass = (
        error(select(record, peer=peer, mean=cases.LARGE_MEAN, **wanted)[0]["y"])
        for peer in ("flax_gn xla", "flax.linen", "flax.linen two-pass")
    )
    return (
        f"At a mean of {cases.LARGE_MEAN:.0f} deviations, in float32, the largest "
        f"error is {ours} of the largest output; flax.linen's is {linen}, or "
        f"{two_pass} with `use_fast_variance=False`."
    )


TABLES: dict[str, Callable[[Row], str]] = {
    "numerics-headline": headline,
    # The first of docs/numerics.md.
    "numerics": lambda record: _by_mean(record, "float32") + "\n\n" + _source(record),
    "numerics-bfloat16": lambda record: _by_mean(record, "bfloat16"),
    "numerics-float16": lambda record: _by_mean(record, "float16"),
    "numerics-sizes": lambda record: _by_size(record, 0.0),
    "numerics-sizes-mean": lambda record: _by_size(record, cases.LARGE_MEAN),
    "numerics-outliers": _outliers,
    "numerics-gradients": _gradients,
}
"""Marker -> the text that stands between its ends."""


def write(document: pathlib.Path, record: Row) -> None:
    """Rewrites the tables that a document has markers for.

    Raises:
      ValueError: it has markers for none.
    """
    text = document.read_text()
    shown = [name for name in TABLES if f"<!-- {name}:begin -->" in text]
    if not shown:
        raise ValueError(
            f"{document.name} must contain <!-- numerics:begin --> and "
            f"<!-- numerics:end -->, or markers of another of {', '.join(TABLES)}"
        )
    for name in shown:
        markers.replace(document, name, TABLES[name](record))


_STYLES = ("o-", "s--", "^:", "x-.", "d-", "v--", "+:", "*-.", "p-", "h--")


def figure(record: Row, path: pathlib.Path) -> None:
    """Draws float32 errors over the mean and over the size of the groups."""
    from matplotlib.figure import Figure

    float32 = select(record, dtype="float32", outlier=None)
    sizes = [row for row in float32 if row["values"] != _VALUES]
    panels = [
        (
            "mean / deviation, groups of 8192 values",
            "mean",
            [row for row in float32 if row["values"] == _VALUES],
        ),
        *(
            (
                f"values in a group, mean {number(mean)}",
                "values",
                [row for row in sizes if row["mean"] == mean],
            )
            for mean in (0.0, cases.LARGE_MEAN)
        ),
    ]
    names = dict.fromkeys(row["peer"] for row in record["results"])
    fig = Figure(figsize=(13, 4.4), layout="tight")
    axes = fig.subplots(1, len(panels), sharey=True)
    for ax, (title, field, rows) in zip(axes, panels, strict=True):
        for index, name in enumerate(names):
            own = sorted(
                (row for row in rows if row["peer"] == name), key=lambda r: r[field]
            )
            ax.plot(
                [row[field] for row in own],
                [math.nan if row["y"] is None else max(row["y"], 1e-9) for row in own],
                _STYLES[index % len(_STYLES)],
                label=name,
                markersize=4,
                linewidth=1,
            )
        if field == "mean":
            ax.set_xscale("symlog", linthresh=1)
        else:
            ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel(title)
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("relative error of the output, float32")
    axes[0].legend(fontsize=7)
    fig.suptitle(_source(record).rpartition("; `")[0], fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=120)
