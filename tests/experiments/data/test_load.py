import urllib.error

import numpy as np
import pytest

from experiments import data
from experiments.data import __main__ as command
from experiments.data import cifar, fashion_mnist
from tests.experiments.data import formats

DOWNLOADED = ("fashion-mnist", "cifar10", "cifar100")


def test_names():
    assert data.NAMES[0] == "fashion-mnist-subset"  # the default ships with the package
    assert data.NAMES[1:] == DOWNLOADED


@pytest.mark.parametrize("name", ["mnist", "CIFAR10", "", None])
def test_an_unknown_name_is_refused_with_the_known_ones(name):
    known = "fashion-mnist-subset, fashion-mnist, cifar10, cifar100"
    with pytest.raises(ValueError, match=f"a dataset of {known}, got {name!r}"):
        data.load(name)


@pytest.mark.parametrize("name", DOWNLOADED)
def test_what_is_not_there_is_not_fetched_unasked(name, tmp_path, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", None)
    with pytest.raises(FileNotFoundError, match=f"-m experiments.data {name} --folder"):
        data.load(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("fashion-mnist", fashion_mnist.FILES[0].url),
        ("cifar10", "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"),
        ("cifar100", "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"),
    ],
)
def test_what_is_not_there_is_fetched_from_its_home(name, url, tmp_path, monkeypatch):
    asked = []

    def urlopen(url, **_):
        asked.append(url)
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    with pytest.raises(ConnectionError, match="no network in this test"):
        data.load(name, tmp_path, download=True)
    assert asked == [url]


@pytest.mark.parametrize("archive", [cifar.CIFAR10, cifar.CIFAR100])
def test_other_files_under_the_right_names_are_refused(archive, tmp_path):
    members, _, _ = formats.cifar_members(archive, 10)
    (tmp_path / archive.file.name).write_bytes(formats.tar(members))
    with pytest.raises(ValueError, match=f"{archive.file.name}: expected SHA-256"):
        data.load(archive.name, tmp_path)


def test_the_command_describes_the_set(capsys):
    command.main(["fashion-mnist-subset"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "training: 10000 images of 28x28x1",
        "test: 2000 images of 28x28x1",
    ]
    mean = np.round(data.load("fashion-mnist-subset").mean, 4)
    assert lines[3].startswith(f"mean: {mean}")


def test_the_command_fails_with_the_error_alone(tmp_path):
    (tmp_path / cifar.CIFAR10.file.name).write_bytes(b"other")
    with pytest.raises(SystemExit, match="expected SHA-256"):
        command.main(["cifar10", "--folder", str(tmp_path)])
