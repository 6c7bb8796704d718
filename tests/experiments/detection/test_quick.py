"""Detection, from the command on sites made here to the page."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from experiments import __main__ as command
from experiments.detection import recipe, report
from experiments.training import program as compiled
from tests.experiments.data import coco_files
from tests.experiments.detection import photographs, tiny
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


class TestCoco(quick.Quick):
    """The same on files of COCO's form."""

    name = "detection"

    @classmethod
    def shrink(cls, patch, folder):
        root = photographs.install(patch, folder / "coco")
        patch.setattr(cls, "options", ("--dataset", "coco", "--data-folder", str(root)))

    def test_the_record_is_of_the_set(self, finished):
        record = finished.record
        drawn = photographs.drawings(6, 1)
        objects = [[c for c, _, crowd in d.boxes if not crowd] for d in drawn]
        assert record["dataset"] == "coco"
        assert record["pictures"] == 6
        assert record["objects"] == sum(map(len, objects))
        assert record["classes"] == 3
        assert len(record["shown"]["objects"]) == max(map(len, objects))
        shown = [len(objects[i]) for i in range(6)].index(max(map(len, objects)))
        classes = [sorted(coco_files.COLOURS).index(c) for c in objects[shown]]
        assert [box[4] for box in record["shown"]["objects"]] == classes
        train = [
            n
            for d in photographs.drawings(9, 0)
            if (n := sum(not crowd for *_, crowd in d.boxes))
        ]
        crowded = sum(n > 2 for n in train)
        assert crowded > 0
        assert record["said"] == [
            f"Trained on {len(train)} pictures, those of train2017 with boxes.",
            f"Only the largest 2 boxes count in {crowded} of them.",
        ]
        assert "\n".join(record["said"]) in finished.told

    def test_it_learns_and_finds_boxes_of_every_class(self, finished):
        for run in finished.record["runs"]:
            curve = run["curve"]
            assert curve["train_loss"][1] < curve["train_loss"][0]
            found = np.array(run["measured"]["found"])
            assert set(found[:, 5]) == {0, 1, 2}
            assert (np.diff(found[:, 4]) <= 0).all()
        first = finished.record["first"]
        assert [(r["norm"], r["batch"], r["epochs"]) for r in first] == [
            ("bn", 8, 2),
            ("gn", 8, 2),
        ]

    def test_table_and_caption_speak_of_the_set(self, finished):
        record = finished.record
        words = report.caption(record) + report.table(record)
        assert "trees" not in words
        assert "tiles" not in words
        assert f"6 pictures with {record['objects']} objects of 3 classes of" in words
        assert "on 1 device, at a peak" in words
        assert "| pictures per device | AP before |" in words

    def test_wrong_files_are_refused_before_any_training(
        self, finished, tmp_path, capsys
    ):
        root = finished.argv[finished.argv.index("--data-folder") + 1]
        copy = pathlib.Path(shutil.copytree(root, tmp_path / "coco"))
        out = tmp_path / "out"
        argv = ["detection", "--quick", "--dataset", "coco", "--data-folder", str(copy)]
        argv += ["--out", str(out)]
        path = copy / "annotations" / "instances_val2017.json"
        kept = path.read_text()
        path.write_text(json.dumps(json.loads(kept) | {"annotations": []}))
        assert command.main(argv) == 2
        told = "expected boxes in the 6 pictures of val2017, got none"
        assert told in capsys.readouterr().err
        path.write_text(kept)
        # The picture with the most boxes is read to be shown.
        for path in (copy / "val2017").iterdir():
            path.write_bytes(path.read_bytes()[:200])
        assert command.main(argv) == 2
        assert "jpg: expected a whole picture" in capsys.readouterr().err
        next((copy / "train2017").iterdir()).unlink()
        assert command.main(argv) == 2
        assert "expected the 10 pictures" in capsys.readouterr().err
        shutil.rmtree(copy / "annotations")
        assert command.main(argv) == 2
        assert "which does not exist. Unpack train2017.zip" in capsys.readouterr().err
        assert not out.exists()
