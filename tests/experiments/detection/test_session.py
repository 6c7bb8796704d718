"""A quick run from the command line to the record, on sites made here."""

import json

import numpy as np
import pytest

from experiments.data import trees
from experiments.detection import experiment, recipe, report
from experiments.training import program as compiled
from tests.experiments.detection import tiny


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a quick run of one norm, its record, and its command line."""
    folder = tmp_path_factory.mktemp("detection")
    with pytest.MonkeyPatch.context() as patch:
        tiny.install(patch, folder / "cache")
        argv = ["--quick", "--norms", "frozen", "--out", str(folder / "out")]
        assert experiment.run(argv) == 0
        yield folder, json.loads((folder / "out" / "quick.json").read_text()), argv


def test_the_record_holds_every_run(finished):
    folder, record, _ = finished
    assert [(r["norm"], r["batch"], r["seed"]) for r in record["runs"]] == [
        ("frozen", 1, 0)
    ]
    assert [(r["norm"], r["batch"], r["epochs"]) for r in record["first"]] == [
        ("bn", 16, 2)
    ]
    for run in record["runs"]:
        curve = run["curve"]
        assert curve.keys() == {"train_loss", "test_loss", "test_ap", "test_ap50"}
        assert curve["train_loss"][1] < curve["train_loss"][0], "it learns"
        assert all(
            0 <= low <= high <= 1
            for low, high in zip(curve["test_ap"], curve["test_ap50"], strict=True)
        )
    assert record["dataset"] == "trees"
    both = record["runs"][0]["seconds"] + record["first"][0]["seconds"]
    assert record["seconds"] == pytest.approx(both, abs=0.1)
    assert record["tiles"] == 2
    assert record["trees"] == len(record["shown"]["trees"]) + _others(record)
    assert (folder / "out" / "quick.png").read_bytes()[:4] == b"\x89PNG"


def _others(record) -> int:
    """The trees of the tile that is not shown, which has no more of them."""
    test = recipe.sites(*trees.load()).test
    counts = (test.boxes[..., 2] > 0).sum(1)
    assert max(counts) == len(record["shown"]["trees"])
    return int(counts.sum() - counts.max())


def test_the_boxes_that_are_shown_were_found_in_the_tile(finished):
    _, record, _ = finished
    for run in record["runs"]:
        found = np.array(run["measured"]["found"])
        assert len(found) > 0
        assert (found[:, :4] >= 0).all()
        assert (found[:, :4] <= tiny.SHAPE.side).all()
        assert (np.diff(found[:, 4]) <= 0).all()


def test_to_resume_trains_nothing_anew(finished, monkeypatch):
    folder, record, argv = finished
    monkeypatch.setattr(compiled.Program, "train", None)
    assert experiment.run([*argv, "--resume"]) == 0
    again = json.loads((folder / "out" / "quick.json").read_text())
    for part in ("runs", "first", "shown"):
        assert again[part] == record[part]


def test_the_table_of_the_record(finished):
    _, record, _ = finished
    head, _, row = report.table(record).splitlines()
    assert head == "| tiles per device | AP before | AP at 1 | AP50 at 1 |"
    before = 100 * record["first"][0]["ap"]
    assert row.startswith(f"| frozen batch norm | {before:.1f} | ")
    assert row.endswith(f" {100 * record['runs'][0]['curve']['test_ap50'][-1]:.1f} |")


def test_missing_pictures_are_refused_with_the_way_to_them(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert experiment.run(["--quick", "--out", str(tmp_path / "out")]) == 2
    assert "python -m experiments.data trees" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
