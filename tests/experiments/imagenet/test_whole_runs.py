"""Whole runs on files: the kind of file does not show in what comes out."""

import pytest

from tests.experiments.imagenet.runs import lines
from tests.experiments.imagenet.writers import WRITERS

pytestmark = pytest.mark.slow

# Two epochs, of two batches of five of the ten pictures.
SMALL = "--batch", "5", "--synthetic-examples", "10", "--augment", "crop"


@pytest.fixture(scope="module")
def trained(start, tmp_path_factory):
    """Kind of file -> the journal of a run on it."""

    def train(kind):
        at = tmp_path_factory.mktemp(kind)
        (at / "files").mkdir()
        for split in ("train", "validation"):
            WRITERS[kind](at / "files", split=split)
        ended, *_ = start(at / "run", "--data", str(at / "files"), *SMALL)
        assert ended.status == 0, ended.printed
        return lines(at / "run")

    return {kind: train(kind) for kind in WRITERS}


def test_files_of_records_give_one_run(trained):
    assert trained["array_record"] == trained["tfrecord"] == trained["parquet"]


def test_every_kind_is_trained_on_and_measured(trained):
    for entries in trained.values():
        kinds = [entry["kind"] for entry in entries]
        assert kinds.count("train") == 4
        assert kinds.count("validation") == 2
        assert not any(entry.get("training_left_out") for entry in entries)
