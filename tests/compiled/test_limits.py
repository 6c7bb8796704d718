"""The record is whole and meets the bars, and the bars see each number."""

import dataclasses

import pytest

from experiments.benchmark import compiled, layers, targets
from tests.compiled import limits

TABLE = layers.load()
STAMPS, ROWS = compiled.load(compiled.RECORD)
OURS = [row for row in ROWS if row.norm == "xla"]


@pytest.mark.parametrize("target", targets.TARGETS)
def test_the_record_has_every_layer(target):
    found = {
        (row.layer, row.name)
        for row in OURS
        if row.target == target and row.dtype == "bfloat16"
    }
    assert found == {(layer, part) for layer in TABLE for part in limits.NEEDED}


def test_the_record_meets_the_bars():
    for row in OURS:
        assert row.error is None
        assert not limits.bars(row, TABLE[row.layer]).exceeded(row), row
        assert not row.relayout, row


@pytest.mark.parametrize("name", ["kernels", "moved", "largest", "scratch"])
def test_a_number_too_large_is_seen(name, monkeypatch):
    row = next(row for row in OURS if row.layer == "sd15_64_320")
    monkeypatch.setattr(
        limits.importlib.metadata,
        "version",
        lambda package: STAMPS[row.target]["versions"][package],
    )
    recorded = limits.recorded(row)
    assert recorded is not None
    assert not recorded.exceeded(row)
    worse = dataclasses.replace(row, **{name: getattr(row, name) + row.x})
    for limit in (recorded, limits.bars(row, TABLE[row.layer])):
        assert [what.split()[0] for what in limit.exceeded(worse)] == [name]


def test_another_compiler_is_not_held_to_the_record(monkeypatch):
    monkeypatch.setattr(limits.importlib.metadata, "version", lambda _: "0")
    assert limits.recorded(OURS[0]) is None
