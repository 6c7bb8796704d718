"""The committed record: what the documents show of it, and what it says of the op."""

import math
import pathlib

import numpy as np
import pytest

from experiments import markers
from experiments.numerics import cases, peers, report

ROOT = pathlib.Path(__file__).parents[3]
DOCUMENTS = [
    path
    for path in (ROOT / "README.md", ROOT / "docs" / "numerics.md")
    if path.is_file() and "<!-- numerics:begin -->" in path.read_text()
]
OURS = "flax_gn xla"
RECORD = report.load(report.RECORD)


def test_the_page_on_numerics_shows_the_record():
    assert ROOT / "docs" / "numerics.md" in DOCUMENTS


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_say_what_the_record_says(document):
    shown = [
        name
        for name in report.TABLES
        if f"<!-- {name}:begin -->" in document.read_text()
    ]
    assert shown
    for name in shown:
        assert markers.read(document, name) == report.TABLES[name](RECORD).strip()


def test_holds_every_peer_in_every_case():
    wanted = {
        (c.dtype, c.values, c.mean, c.outlier)
        for c in (*cases.by_mean(), *cases.by_size())
    }
    for name in (*peers.NAMES, *peers.TORCH):
        rows = report.select(RECORD, peer=name)
        got = [(r["dtype"], r["values"], r["mean"], r["outlier"]) for r in rows]
        assert len(got) == len(set(got)), name
        assert set(got) == wanted, name
    assert RECORD["torch"]
    assert {"jax", "flax", "dm-haiku", "equinox", "keras"} <= set(RECORD["versions"])


def test_float32_output_is_as_accurate_as_promised():
    rows = report.select(RECORD, peer=OURS, dtype="float32")
    assert len(rows) == 8 * 3 + 8 * 2
    for row in rows:
        assert row["y"] <= (5e-7 if row["mean"] == 0 else 5e-6), row


def test_float32_gradients_are_as_accurate_as_promised():
    rows = report.select(RECORD, peer=OURS, dtype="float32", values=8192)
    assert len(rows) == 8 * 3
    for row in rows:
        bound = 10 * (5e-7 if row["mean"] == 0 else 5e-6)
        assert row["dx"] <= bound, row
        assert row["dgamma"] <= bound, row


@pytest.mark.parametrize(("dtype", "unit"), [("bfloat16", 2**-8), ("float16", 2**-11)])
def test_half_precision_loses_its_own_rounding_and_no_more(dtype, unit):
    rows = report.select(RECORD, peer=OURS, dtype=dtype)
    assert len(rows) > 8
    for row in rows:
        assert row["y"] <= 1.01 * unit, row


def test_a_constant_group_is_exactly_beta():
    # bfloat16 cannot tell unit deviations at a mean of 1e4 apart.
    x, _ = cases.Case("bfloat16", (2, 32, 32, 16), 2, 1e4).arrays()
    assert np.all(x == x[0, 0, 0, 0])
    rows = report.select(RECORD, peer=OURS, dtype="bfloat16", mean=1e4)
    assert [row["y"] for row in rows] == [0.0]


def test_the_text_of_the_page():
    """Sentences of docs/numerics.md that state a result without a table."""
    text = " ".join((ROOT / "docs" / "numerics.md").read_text().split())
    worst = max(r["y"] for r in report.select(RECORD, peer=OURS, dtype="float32"))
    assert f"its largest error is {report.error(worst)}" in text
    two = report.select(RECORD, peer="haiku", dtype="bfloat16", values=2)
    assert f"is {report.error(two[0]['y'])} off in bfloat16 with two values" in text
    largest = report.select(RECORD, peer="torch channels-last", values=10_000_000)
    error = next(r["y"] for r in largest if (r["dtype"], r["mean"]) == ("float32", 0))
    assert f"{report.error(error)} off at 10^7 values" in text


def test_errors_are_numbers():
    for row in RECORD["results"]:
        assert (row["y"] is None) == (row["failed"] is not None)
        assert row["y"] is None or (math.isfinite(row["y"]) and row["y"] >= 0)
