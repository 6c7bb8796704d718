"""Plans as text for a terminal, as a record, and as a table for the documentation."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from experiments import markers, records
from experiments.plan.step import Made

RECORD = pathlib.Path(__file__).with_name("results") / "plan.json"
MIB, GIB = 2**20, 2**30


@dataclasses.dataclass(frozen=True)
class Row:
    """One question and its answer.

    Attributes:
      topology: such as "v5e:16x16".
      config: what was asked for beside the batch, by name.
      largest: whether the batch is the largest that fits, rather than one asked for.
      batch: examples on each device that were asked for; None for the largest.
      made: the answer; None where nothing fits.
    """

    topology: str
    config: dict[str, Any]
    largest: bool
    batch: int | None
    made: Made | None

    @property
    def key(self) -> str:
        """What tells questions apart."""
        question = dataclasses.replace(self, made=None)
        return json.dumps(dataclasses.asdict(question), sort_keys=True)


def load(path: pathlib.Path) -> tuple[dict[str, Any], list[Row]]:
    """A record's stamp and its rows; empty if there is none."""
    if not path.exists():
        return {}, []
    record = json.loads(path.read_text())
    rows = [
        Row(**(row | {"made": Made(**row["made"]) if row["made"] else None}))
        for row in record["rows"]
    ]
    return record["stamp"], rows


def save(path: pathlib.Path, new: Iterable[Row]) -> None:
    """Adds rows to a record, in place of those that answer the same question."""
    _, rows = load(path)
    together = {row.key: row for row in (*rows, *new)}
    rows = [dataclasses.asdict(together[key]) for key in sorted(together)]
    stamp = records.stamp("libtpu", "jax-cuda13-plugin", "optax")
    records.write(path, {"stamp": stamp, "rows": rows})


def plain(row: Row) -> str:
    """An answer as text."""
    what = ", ".join(f"{name} {value}" for name, value in row.config.items())
    head = f"{row.topology}: {what}"
    if row.made is None:
        asked = "1 example" if row.batch is None else f"{row.batch} examples"
        return f"{head}\n  does not fit, at {asked} per device"
    made = row.made
    batch = f"{made.batch} per device, {made.batch * made.devices} in all"
    memory = (
        f"{made.memory / GIB:.2f} GiB: {made.temporaries / GIB:.2f} for activations "
        f"and scratch, {made.arguments / GIB:.2f} for state and batch, "
        f"{(made.code + made.results) / GIB:.2f} for the program and its results"
    )
    lines = [
        ("largest batch that fits" if row.largest else "batch", batch),
        ("memory per device", memory),
        ("read and written per step", f"{made.moved / GIB:.2f} GiB per device"),
        ("collectives per step", _collectives(made) or "none"),
        ("compiled in", f"{made.seconds:.0f} s"),
    ]
    return "\n".join([head, *(f"  {name:26}{value}" for name, value in lines)])


def table(rows: Sequence[Row]) -> str:
    """The answers in Markdown, a line for each."""
    head = [
        "devices",
        "norm",
        "batch per device",
        "in all",
        "memory per device, GiB",
        "of it activations and scratch",
        "read and written per step, GiB",
        "collectives per step",
    ]
    body = []
    for row in rows:
        start = [_place(row), row.config["norm"] + _options(row)]
        if row.made is None:
            body.append([*start, f"{row.batch or 'any'}: does not fit", *[""] * 5])
            continue
        made = row.made
        batch = f"**{made.batch}**, the largest" if row.largest else str(made.batch)
        body.append(
            [
                *start,
                batch,
                str(made.batch * made.devices),
                f"{made.memory / GIB:.2f}",
                f"{made.temporaries / GIB:.2f}",
                f"{made.moved / GIB:.2f}",
                _collectives(made) or "none",
            ]
        )
    rule = ["---"] * 2 + ["---:"] * 5 + ["---"]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *body))


def section(path: pathlib.Path) -> str:
    """The part of the documentation that a record makes."""
    stamp, rows = load(path)
    rows = sorted(rows, key=_order)
    (network,) = {row.config["network"] for row in rows}
    (size,) = {row.config["image_size"] for row in rows}
    (dtype,) = {row.config["dtype"] for row in rows}
    versions = stamp["versions"]
    compilers = ", ".join(
        f"{name} {versions[name]}"
        for name in ("jax", "libtpu", "jax-cuda13-plugin")
        if name in versions
    )
    return (
        f"{table(rows)}\n\nOne training step of {network} on images of "
        f"{size}x{size}, computed in {dtype}; {compilers}; {stamp['date'][:10]}."
    )


def write_docs(path: pathlib.Path, record: pathlib.Path) -> bool:
    """Writes that part between the markers ``plan`` of a document."""
    return markers.replace(path, "plan", section(record))


def _order(row: Row) -> tuple[Any, ...]:
    made = row.made
    devices = made.devices if made else 0
    batch = made.batch if made else row.batch or 0
    kind = row.topology.partition(":")[0]
    return kind, devices, row.config["norm"], row.config["remat"], batch


def _place(row: Row) -> str:
    kind, _, grid = row.topology.partition(":")
    if not grid:
        return f"1 {kind.upper()}"
    return f"{kind}-{row.made.devices}" if row.made else row.topology


def _options(row: Row) -> str:
    """What is out of the ordinary."""
    parts = []
    if row.config["remat"]:
        parts.append("remat")
    if row.config["accumulation"] > 1:
        parts.append(f"{row.config['accumulation']} parts")
    return f" ({', '.join(parts)})" if parts else ""


def _collectives(made: Made) -> str:
    return ", ".join(
        f"{count} {kind} of {_size(size)}"
        if count == 1
        else f"{count} {kind}, {_size(size)} together"
        for kind, count, size in made.collectives
    )


def _size(size: int) -> str:
    return f"{size / MIB:.1f} MiB" if size >= MIB / 10 else f"{size} bytes"
