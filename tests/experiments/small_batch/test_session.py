"""The whole command, on a network and images small enough for a test."""

import dataclasses
import signal
import statistics

import pytest

from experiments import data, training
from experiments.small_batch import __main__ as command
from experiments.small_batch import recipe, results
from experiments.training import devices
from tests.experiments.training import tiny

OPTIONS = ["--batch-sizes", "4", "2", "--epochs", "2", "--seeds", "2"]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(data, "load", lambda *_: tiny.dataset())
    monkeypatch.setattr(recipe, "network", tiny.Network)
    # The tests have their 8 devices already.
    monkeypatch.setattr(devices, "prepare", lambda *_: None)


def _numbers(record):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in record["runs"]]


def test_from_one_command_to_table_record_and_figure(tmp_path, capsys):
    options = [*OPTIONS, "--norms", "gn", "--out", str(tmp_path)]
    assert command.main(options) == 0
    printed = capsys.readouterr().out
    assert "group norm" in printed
    assert "From 4 to 2 examples per device the error" in printed

    record = results.read(tmp_path / "default.json")
    assert [(r["norm"], r["batch"], r["seed"]) for r in record["runs"]] == [
        ("gn", batch, seed) for batch in (4, 2) for seed in (0, 1)
    ]
    assert {r["epochs"] * r["epoch_examples"] for r in record["runs"]} == {128}
    assert record["stamp"]["versions"]["jax"]
    for row in record["runs"]:
        assert len(row["curve"]["test_errors"]) == 2
        assert row["test_error"] == pytest.approx(row["curve"]["test_errors"][-1])
    image = (tmp_path / "default.png").read_bytes()
    assert image.startswith(b"\x89PNG")
    assert len(image) < 200_000

    # The same with an interruption in the third run.
    calls = []
    undisturbed = training.Program.train

    def train(program, state, batch):
        calls.append(program)
        if len(calls) == 5:
            signal.raise_signal(signal.SIGINT)
        return undisturbed(program, state, batch)

    again = [*options[:-1], str(tmp_path / "again")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.Program, "train", train)
        assert command.main(again) == 130
    assert len(calls) == 5
    assert "--resume" in capsys.readouterr().err
    assert not (tmp_path / "again" / "default.json").exists()
    assert command.main([*again, "--resume"]) == 0
    resumed = results.read(tmp_path / "again" / "default.json")
    assert _numbers(resumed) == _numbers(record)

    # More seeds are added to what there is.
    assert command.main([*again, "--resume", "--seeds", "3"]) == 0
    grown = results.read(tmp_path / "again" / "default.json")["runs"]
    assert [r["seed"] for r in grown] == [0, 1, 2] * 2
    assert [r for r in grown if r["seed"] < 2] == resumed["runs"]

    # Other options are not what these runs were started with.
    assert command.main([*again, "--resume", "--parallelism", "jit"]) == 2
    assert "started with other options" in capsys.readouterr().err


def test_a_batch_larger_than_the_data_is_refused(tmp_path, capsys):
    assert command.main(["--batch-sizes", "16", "--out", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert "at least 128 training examples" in message
    assert "got 70" in message
    assert not list(tmp_path.iterdir())


def test_missing_data_is_refused(tmp_path, capsys, monkeypatch):
    def load(*_):
        raise FileNotFoundError("put train.gz into FOLDER")

    monkeypatch.setattr(data, "load", load)
    options = ["--dataset", "cifar10", "--out", str(tmp_path)]
    assert command.main(options) == 2
    assert "put train.gz into FOLDER" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_every_run_of_the_recipe_sees_the_same_examples():
    for name, size in recipe.SIZES.items():
        configs = recipe.configs(
            ("bn", "gn"), size, devices=2, available=10_000, parallelism="pmap"
        )
        assert len(configs) == 2 * len(size.batches) * size.seeds, name
        assert {c.steps * c.global_batch for c in configs} == {
            (size.examples or 9984) * size.epochs
        }
        assert {c.seed for c in configs} == set(range(size.seeds))


def test_statistics_over_devices_need_devices():
    asked = ("sync",), recipe.SIZES["quick"]
    (config, _) = recipe.configs(*asked, devices=8, available=10_000)
    assert config.rate == recipe.RATES["bn"]
    with pytest.raises(ValueError, match="--parallelism pmap with the norm 'sync'"):
        recipe.configs(*asked, devices=8, available=10_000, parallelism="jit")


def test_the_committed_record_is_of_this_recipe():
    record = results.read(results.FOLDER / "full.json")
    asked = recipe.configs(
        recipe.NORMS, recipe.SIZES["full"], devices=2, available=10_000
    )
    for row, config in zip(record["runs"], asked, strict=True):
        wanted = dataclasses.asdict(config)
        assert {k: v for k, v in row.items() if k in wanted}.items() <= wanted.items()
        curve = row["curve"]["test_errors"][-recipe.last_epochs(config.epochs) :]
        assert row["test_error"] == pytest.approx(statistics.median(curve))
