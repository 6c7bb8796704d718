import numpy as np
import pytest

from experiments.data import make_subset
from tests.experiments.data import formats


def _make(folder, out, arrays, **options):
    source = formats.write_fashion(folder, arrays)
    counts = {"train_per_class": 2, "test_per_class": 1} | options
    make_subset.make(folder, out, source=source, **counts)
    return out


def test_the_same_source_gives_the_same_bytes(tmp_path):
    first = _make(tmp_path / "a", tmp_path / "first.npz", formats.fashion())
    second = _make(tmp_path / "b", tmp_path / "second.npz", formats.fashion())
    assert first.read_bytes() == second.read_bytes()
    other = _make(tmp_path / "c", tmp_path / "other.npz", formats.fashion(seed=1))
    assert first.read_bytes() != other.read_bytes()


def test_the_first_images_of_each_class_are_kept_in_order(tmp_path):
    arrays = formats.fashion(train=50)
    out = _make(tmp_path, tmp_path / "out.npz", arrays)
    with np.load(out) as made:
        for part, images, labels, per_class in (
            ("train", arrays[0], arrays[1], 2),
            ("test", arrays[2], arrays[3], 1),
        ):
            seen = dict.fromkeys(range(10), 0)
            kept = []
            for i, label in enumerate(labels):
                seen[int(label)] += 1
                if seen[int(label)] <= per_class:
                    kept.append(i)
            np.testing.assert_array_equal(made[f"{part}_images"], images[kept])
            np.testing.assert_array_equal(made[f"{part}_labels"], labels[kept])
            assert made[f"{part}_images"].dtype == np.uint8
            assert made[f"{part}_labels"].dtype == np.uint8


def test_too_few_images_of_a_class_are_refused(tmp_path):
    message = "expected 4 images of class 0 or more, got 3"
    with pytest.raises(ValueError, match=message):
        _make(tmp_path, tmp_path / "out.npz", formats.fashion(), train_per_class=4)
    assert not (tmp_path / "out.npz").exists()


def test_the_command_refuses_another_source_and_writes_nothing(tmp_path):
    formats.write_fashion(tmp_path, formats.fashion())
    out = tmp_path / "out.npz"
    with pytest.raises(
        SystemExit, match=r"train-images-idx3-ubyte\.gz: expected SHA-256"
    ):
        make_subset.main(["--source", str(tmp_path), "--out", str(out)])
    assert not out.exists()


def test_the_command_refuses_a_missing_source(tmp_path):
    missing = tmp_path / "missing"
    with pytest.raises(SystemExit, match=f"{missing} does not exist"):
        make_subset.main(["--source", str(missing)])
