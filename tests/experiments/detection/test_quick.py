"""Detection, from the command on sites made here to the page."""

import json

import numpy as np
import pytest

from experiments import __main__ as command
from experiments.detection import recipe
from experiments.training import program as compiled
from tests.experiments.detection import tiny
from tests.experiments.lab import quick


class TestQuick(quick.Quick):
    name = "detection"

    @classmethod
    def shrink(cls, patch, folder):
        tiny.install(patch, folder / "cache")

    def test_the_record_holds_every_run(self, finished):
        record = finished.record
        runs = [(r["norm"], r["batch"], r["seed"]) for r in record["runs"]]
        assert runs == [("frozen", 1, 0), ("bn", 1, 0), ("gn", 1, 0)]
        first = [(r["norm"], r["batch"], r["epochs"]) for r in record["first"]]
        assert first == [("bn", 16, 2), ("gn", 16, 2)]
        for run in record["runs"]:
            curve = run["curve"]
            assert curve.keys() == {"train_loss", "test_loss", "test_ap", "test_ap50"}
            assert curve["train_loss"][1] < curve["train_loss"][0], "it learns"
            assert all(
                0 <= low <= high <= 1
                for low, high in zip(curve["test_ap"], curve["test_ap50"], strict=True)
            )
        assert record["dataset"] == "trees"
        both = sum(run["seconds"] for run in record["runs"] + record["first"])
        assert record["seconds"] == pytest.approx(both, abs=0.1)

    def test_the_table_has_the_precision_before_and_after(self, finished):
        record = finished.record
        head, _, row, *_ = self.words(record).splitlines()
        assert head == "| tiles per device | AP before | AP at 1 | AP50 at 1 |"
        before = 100 * record["first"][0]["ap"]
        assert row.startswith(f"| frozen batch norm | {before:.1f} | ")
        after = 100 * record["runs"][0]["curve"]["test_ap50"][-1]
        assert row.endswith(f" {after:.1f} |")

    def test_the_tile_that_is_shown_has_the_most_trees(self, finished):
        record = finished.record
        test = recipe.SETS["trees"].sites(None, None).test
        counts = [len(boxes) for boxes in test.truth()]
        assert record["tiles"] == len(counts) == 2
        assert record["trees"] == sum(counts)
        assert len(record["shown"]["trees"]) == max(counts)

    def test_the_boxes_that_are_shown_were_found_in_it(self, finished):
        for run in finished.record["runs"]:
            found = np.array(run["measured"]["found"])
            assert len(found) > 0
            assert (found[:, :4] >= 0).all()
            assert (found[:, :4] <= tiny.SHAPE.side).all()
            assert (np.diff(found[:, 4]) <= 0).all()

    def test_to_resume_trains_nothing_anew(self, finished, monkeypatch):
        monkeypatch.setattr(compiled.Program, "train", None)
        assert command.main([*finished.argv, "--resume"]) == 0
        again = json.loads((finished.out / "quick.json").read_text())
        for part in ("runs", "first", "shown"):
            assert again[part] == finished.record[part]
