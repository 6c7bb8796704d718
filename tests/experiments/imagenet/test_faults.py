"""What goes wrong in long runs, and what is left afterwards."""

import shutil

import numpy as np
import pytest
from PIL import Image

from experiments.imagenet import journal
from tests.experiments.imagenet.runs import files, lines, parameters

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(start, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    (ended,) = start(out)
    assert ended.status == 0, ended.printed
    return out


def same(out, undisturbed):
    """Whether a run ended as the undisturbed one, to the last bit."""
    want, got = parameters(undisturbed), parameters(out)
    assert want.keys() == got.keys()
    assert all(got[name].tobytes() == value.tobytes() for name, value in want.items())
    assert lines(out) == lines(undisturbed)


def largest(folder):
    return max(folder.rglob("d/*"), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize(
    "find",
    [
        # Which of them holds what depends on the order in which they were written.
        lambda folder: sorted(folder.rglob("d/*")),
        lambda folder: [folder / "state" / "_METADATA"],
        lambda folder: [folder / "progress" / "metadata"],
    ],
    ids=["arrays", "list", "progress"],
)
def test_a_checkpoint_that_is_cut_short(start, undisturbed, tmp_path, find):
    out = tmp_path / "run"
    shutil.copytree(undisturbed, out)
    damaged = find(out / "checkpoints" / "10")
    assert damaged
    for path in damaged:
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    (ended,) = start(out)
    assert ended.status == 0, ended.printed
    assert "the checkpoint of step 10 is damaged: passing it over" in ended.printed
    assert files(out / "damaged") == {"10"}
    same(out, undisturbed)


def test_a_checkpoint_that_was_never_finished(start, undisturbed, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(undisturbed, out)
    unfinished = out / "checkpoints" / "10.orbax-checkpoint-tmp"
    (out / "checkpoints" / "10").rename(unfinished)
    largest(unfinished).unlink()
    (ended,) = start(out)
    assert ended.status == 0, ended.printed
    same(out, undisturbed)


def test_an_interruption(start, undisturbed, tmp_path):
    (ended,) = start(tmp_path, hooks={0: ("interrupt", 5)})
    assert ended.status == 130, ended.printed
    assert "To go on:" in ended.printed
    # Told to stop in the last step of an epoch, it measures the epoch when it goes on.
    assert files(tmp_path / "checkpoints") == {"4", "5"}
    (ended,) = start(tmp_path)
    assert ended.status == 0, ended.printed
    same(tmp_path, undisturbed)


def test_a_full_disk(start, undisturbed, tmp_path):
    (ended,) = start(tmp_path, hooks={0: ("full", 7)})
    assert ended.status == 1, ended.printed
    assert "host 0: a checkpoint could not be written to" in ended.printed
    assert "the checkpoint of step 6 is whole: make room" in ended.printed
    # A message, no trace through the program. What tensorstore prints of its own, when
    # another array's write ends after orbax has given up waiting, is not ours to stop.
    assert "SaveError" not in ended.printed
    assert "experiments/imagenet" not in ended.printed
    (ended,) = start(tmp_path)
    assert ended.status == 0, ended.printed
    same(tmp_path, undisturbed)


def test_a_loss_that_is_not_finite_ends_the_run(start, undisturbed, tmp_path):
    (ended,) = start(tmp_path, hooks={0: ("infinite", 8)})
    assert ended.status == 1
    assert "host 0: step 8: not finite on host 0: loss " in ended.printed
    dump = np.load(tmp_path / "nonfinite" / "step_8_host_0.npz")
    assert np.isinf(dump["images"]).all()
    assert dump["labels"].shape == (16,)
    assert not dump["finite"].any()
    # What it says of the state before the step is so.
    assert "the state before the step in the checkpoint of step 7" in ended.printed
    (ended,) = start(tmp_path)
    assert ended.status == 0, ended.printed
    same(tmp_path, undisturbed)


def test_a_loss_that_is_not_finite_is_left_out_on_request(start, tmp_path):
    (ended,) = start(tmp_path, "--skip-nonfinite", hooks={0: ("infinite", 8)})
    assert ended.status == 0, ended.printed
    entries = journal.read(tmp_path)
    norms = {e["step"]: e["gradient"] for e in entries if e["kind"] == "train"}
    assert [step for step, norm in norms.items() if norm is None] == [8]
    skipped = [e["steps_skipped"] for e in entries if e["kind"] == "validation"]
    assert skipped == [0, 1]


def test_another_run_in_the_folder(start, undisturbed):
    (ended,) = start(undisturbed, "--seed", "1")
    assert ended.status == 2
    assert "it holds another run: seed is 0 there and 1 now" in ended.printed


def test_a_run_that_has_ended(start, undisturbed):
    before = parameters(undisturbed)
    (ended,) = start(undisturbed)
    assert ended.status == 0
    assert "training loss" not in ended.printed
    assert "the median of the last epochs" in ended.printed
    after = parameters(undisturbed)
    assert all(
        after[name].tobytes() == value.tobytes() for name, value in before.items()
    )


@pytest.fixture
def pictures(tmp_path):
    """Two classes, 20 images each to train on, two of them damaged."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 20), ("val", 4)):
        for label in ("cat", "dog"):
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (30, 20, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.JPEG")
    cut = tmp_path / "train" / "cat" / "7.JPEG"
    cut.write_bytes(cut.read_bytes()[:400])
    (tmp_path / "train" / "dog" / "3.JPEG").write_bytes(b"not found")
    return tmp_path


def test_images_that_cannot_be_read(start, pictures, tmp_path):
    ours = "--data", str(pictures), "--augment", "crop"
    (ended,) = start(tmp_path / "run", *ours)
    assert ended.status == 1
    named = ("train/cat/7.JPEG: ", "train/dog/3.JPEG: it is no image of a known kind")
    assert any(f"host 0: {pictures}/{name}" in ended.printed for name in named)
    assert "--skip-bad" in ended.printed
    (ended,) = start(tmp_path / "run", *ours, "--skip-bad")
    assert ended.status == 0, ended.printed
    for name in named:
        assert f"left out: {pictures}/{name}" in ended.printed
    entries = journal.read(tmp_path / "run")
    counts = [e["training_left_out"] for e in entries if e["kind"] == "validation"]
    # An epoch has two batches of 16 of the 40 images.
    assert sum(counts) == ended.printed.count("left out: ")
    assert f"{counts[0]} images left out" in ended.printed
