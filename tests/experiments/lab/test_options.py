"""Datasets of an experiment's own, on its command line."""

import pathlib

import pytest

from experiments import lab
from experiments.lab import options

COMMAND = lab.Command(
    prog="python -m experiments thing",
    description="",
    norms=("bn", "gn"),
    choices=("bn", "gn"),
    sizes={
        name: lab.Size(epochs=epochs, batches=(2,), seeds=1)
        for name, epochs in (("default", 4), ("quick", 1), ("full", 9))
    },
    sizes_of={"films": {"default": lab.Size(epochs=30, batches=(8, 4), seeds=3)}},
    out=pathlib.Path("runs"),
    datasets=("fetched", "films"),
    shipped=False,
)


def test_a_dataset_can_have_sizes_of_its_own():
    assert options.parse([], COMMAND).size.epochs == 4
    asked = options.parse(["--dataset", "films", "--seeds", "2"], COMMAND)
    assert asked.size == lab.Size(epochs=30, batches=(8, 4), seeds=2)


def test_a_size_that_a_dataset_lacks_is_refused(capsys):
    with pytest.raises(SystemExit):
        options.parse(["--dataset", "films", "--full"], COMMAND)
    assert "--full: films has no such size" in capsys.readouterr().err


def test_the_folder_of_a_default_that_does_not_ship_can_be_named(tmp_path):
    asked = options.parse(["--data-folder", str(tmp_path)], COMMAND)
    assert (asked.dataset, asked.data_folder) == ("fetched", tmp_path)
