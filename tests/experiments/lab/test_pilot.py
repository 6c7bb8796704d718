"""Pilots: where a curve is flat, and what the page says of the committed ones."""

import dataclasses
import json

import pytest

from experiments.lab import catalogue, page, pilot, search
from experiments.training import Config
from tests.experiments.training import tiny

COMMITTED = [(name, of) for name, each in pilot.PILOTS.items() for of in each]


def _rows(errors, **changes):
    """Of runs of 1, 2, 4 ... epochs, of 4 steps each."""
    return [
        {
            "config": dataclasses.asdict(tiny.config(epochs=2**place, **changes)),
            "error": error,
        }
        for place, error in enumerate(errors)
    ]


@pytest.mark.parametrize(
    ("errors", "steps", "said"),
    [
        (
            (0.3, 0.2, 0.195),
            8,
            "From 8 steps on, twice as many take less than 1 point ",
        ),
        ((0.3, 0.2, 0.195), 8, "the record's 8 steps lie there."),
        ((0.3, 0.2, 0.195), 4, "the record's 4 steps end before that."),
        ((0.3, 0.2, 0.185), 8, "to 16 steps, still takes 1.5 points off."),
        ((0.3, 0.2, 0.185), 8, "8 steps are not shown to be enough."),
        # A pause is not the end of a fall.
        ((0.3, 0.295, 0.2, 0.199), 8, "From 16 steps on"),
        # Nor is a rise a fall.
        ((0.2, 0.25, 0.26), 4, "From 4 steps on"),
    ],
)
def test_the_sentence(errors, steps, said):
    assert said in pilot.sentence(_rows(errors), steps)


def test_the_page_compares_with_the_runs_of_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(pilot, "_FOLDER", tmp_path)
    of = pilot.Pilot("gn", "group norm", (1, 2, 4), measure="100 - AP")
    monkeypatch.setattr(pilot, "PILOTS", {"norms": (of,)})
    runs = [
        dataclasses.asdict(tiny.config(epochs=epochs, **changes)) | {"seconds": 1.0}
        for epochs, changes in [(1, {"norm": "bn"}), (1, {"batch": 4}), (4, {})]
    ]
    assert pilot.told("norms", {"runs": runs}) == []  # no pilot is committed
    path = pilot.path("norms", "gn")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"results": _rows((0.3, 0.2, 0.195))}))
    [(table, sentence)] = pilot.told("norms", {"runs": runs})
    assert table.splitlines() == [
        "| pilot: steps | 4 | 8 | 16 |",
        "|---|---|---|---|",
        "| group norm: 100 - AP | 30.0 | 20.0 | 19.5 |",
    ]
    assert "the record's 16 steps lie there" in sentence


@pytest.mark.parametrize(("name", "of"), COMMITTED, ids=lambda of: str(of))
def test_the_committed_pilots(name, of):
    rows = json.loads(pilot.path(name, of.norm).read_text())["results"]
    configs = [Config(**row["config"]) for row in rows]
    assert tuple(config.epochs for config in configs) == of.epochs
    rate = search.best(name, of.rated or of.norm)
    assert {config.rate for config in configs} == {rate}
    assert {config.seed for config in configs} == {search.SEED}
    experiment = catalogue.load(name)
    record = experiment.record()
    assert record is not None
    shown = page.section(experiment, record)
    assert pilot.table(of, rows) in shown
