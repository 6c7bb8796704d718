import gzip

import numpy as np
import pytest

from experiments.data import fashion_mnist
from tests.experiments.data import formats

_INSTALLED = (fashion_mnist.DEBIAN / "train-images-idx3-ubyte.gz").is_file()


@pytest.mark.parametrize("compressed", [True, False])
def test_load_returns_what_the_files_hold(tmp_path, compressed):
    arrays = formats.fashion()
    source = formats.write_fashion(tmp_path, arrays, compressed=compressed)
    dataset = fashion_mnist.load(tmp_path, source=source)
    assert dataset.name == "fashion-mnist"
    assert dataset.classes[9] == "Ankle boot"
    np.testing.assert_array_equal(dataset.train_images[..., 0], arrays[0])
    np.testing.assert_array_equal(dataset.train_labels, arrays[1])
    np.testing.assert_array_equal(dataset.test_images[..., 0], arrays[2])
    np.testing.assert_array_equal(dataset.test_labels, arrays[3])


def test_a_file_compressed_anew_is_the_same_file(tmp_path):
    arrays = formats.fashion()
    source = formats.write_fashion(tmp_path, arrays)
    path = tmp_path / source[0].name
    before = path.read_bytes()
    path.write_bytes(gzip.compress(formats.idx(arrays[0]), compresslevel=1, mtime=7))
    assert path.read_bytes() != before
    dataset = fashion_mnist.load(tmp_path, source=source)
    np.testing.assert_array_equal(dataset.train_images[..., 0], arrays[0])


@pytest.mark.parametrize("number", range(4))
def test_a_file_of_other_content_is_refused(tmp_path, number):
    arrays = formats.fashion()
    source = formats.write_fashion(tmp_path, arrays)
    other = arrays[number].copy()
    other[0] = (other[0] + 1) % 10
    path = tmp_path / source[number].name
    path.write_bytes(gzip.compress(formats.idx(other)))
    message = f"{path}: expected SHA-256 {source[number].sha256}, got "
    with pytest.raises(ValueError, match=message):
        fashion_mnist.load(tmp_path, source=source)


def test_a_gzip_file_that_is_cut_off_is_called_so(tmp_path):
    source = formats.write_fashion(tmp_path, formats.fashion())
    path = tmp_path / source[2].name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=f"{path}: expected a whole gzip file"):
        fashion_mnist.load(tmp_path, source=source)


def test_a_gzip_file_with_a_flipped_byte_is_refused(tmp_path):
    source = formats.write_fashion(tmp_path, formats.fashion())
    path = tmp_path / source[0].name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path}: expected"):
        fashion_mnist.load(tmp_path, source=source)


def test_images_and_labels_of_different_numbers_are_refused(tmp_path):
    arrays = formats.fashion()
    arrays[1] = arrays[1][:-1]
    source = formats.write_fashion(tmp_path, arrays)
    with pytest.raises(ValueError, match="each of the 30 training images, got uint8"):
        fashion_mnist.load(tmp_path, source=source)


@pytest.mark.skipif(
    not _INSTALLED, reason="the package dataset-fashion-mnist is absent"
)
def test_the_real_set_has_its_published_statistics(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    dataset = fashion_mnist.load()
    assert dataset.train_images.shape == (60000, 28, 28, 1)
    assert dataset.test_images.shape == (10000, 28, 28, 1)
    assert np.bincount(dataset.train_labels).tolist() == [6000] * 10
    assert np.bincount(dataset.test_labels).tolist() == [1000] * 10
    np.testing.assert_allclose(
        [dataset.mean, dataset.std], [[0.286], [0.353]], atol=5e-5
    )
