"""The paper's eight devices in one program, tried at a tiny size on a CPU."""

import dataclasses
import functools
import json

import pytest

from experiments import data, paper
from experiments.lab import catalogue
from tests.experiments.lab import quick
from tests.experiments.training import tiny


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(data, "load", lambda *_: tiny.dataset(train=256))
    small_batch, norms, groups = (
        dataclasses.replace(part, network=tiny.Network) for part in paper.PARTS
    )
    parts = (
        dataclasses.replace(small_batch, batches=(4, 1)),
        dataclasses.replace(norms, seeds=2),
        dataclasses.replace(
            groups,
            network=functools.partial(tiny.Network, features=64),
            norms=("groups64", "groups1", "channels64", "channels1"),
        ),
    )
    monkeypatch.setattr(paper, "PARTS", parts)
    monkeypatch.setattr(paper, "MOST_EPOCHS", 1)
    with quick.compiled_quickly():
        yield


def test_what_is_not_reached_is_resumed(tmp_path, capsys):
    argv = ["--parts", "small_batch", "--out", str(tmp_path), "--minutes"]
    path = tmp_path / "small_batch" / "paper.json"
    assert paper.main([*argv, "0"]) == 0
    assert "0 of 4 runs" in capsys.readouterr().out
    record = json.loads(path.read_text())
    assert (record["runs"], record["missing"]) == ([], 4)
    assert not path.with_suffix(".png").exists()

    assert paper.main([*argv, "9", "--resume"]) == 0
    record = json.loads(path.read_text())
    assert record["missing"] == 0
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert [(run["norm"], run["batch"]) for run in record["runs"]] == [
        (norm, batch) for norm in ("bn", "gn") for batch in (4, 1)
    ]
    assert {run["devices"] for run in record["runs"]} == {8}
    assert {run["parallelism"] for run in record["runs"]} == {"vmap"}
    assert {run["epochs"] for run in record["runs"]} == {1}


@pytest.mark.parametrize(
    ("name", "batch", "norms"),
    [
        ("norms", 32, ["bn", "ln", "in", "gn"] * 2),
        ("groups", 32, ["groups64", "groups1", "channels64", "channels1"]),
    ],
)
def test_the_other_parts_run_and_are_resumed(
    name, batch, norms, tmp_path, monkeypatch, capsys
):
    argv = ["--parts", name, "--out", str(tmp_path), "--minutes", "9"]
    path = tmp_path / name / "paper.json"
    asked = iter([False] * 2 + [True])  # the time is over after two runs
    monkeypatch.setattr(paper, "over", lambda _: next(asked))
    assert paper.main(argv) == 0
    assert f"2 of {len(norms)} runs" in capsys.readouterr().out
    first = json.loads(path.read_text())["runs"]
    monkeypatch.setattr(paper, "over", lambda _: False)
    assert paper.main([*argv, "--resume"]) == 0
    record = json.loads(path.read_text())
    assert [run["norm"] for run in record["runs"]] == norms
    assert record["runs"][:2] == first
    assert {run["batch"] for run in record["runs"]} == {batch}
    assert {run["parallelism"] for run in record["runs"]} == {"vmap"}
    # Every cell has its first seed before any has its second.
    seeds = [run["seed"] for run in record["runs"]]
    assert seeds == sorted(seeds)
    experiment = catalogue.load(name)
    assert experiment.verdicts(record)
    drawn = path.with_suffix(".png").read_bytes()
    experiment.figure(record, tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == drawn


def test_the_time_decides_the_epochs(monkeypatch):
    part = paper.PARTS[0]
    monkeypatch.setattr(paper, "MOST_EPOCHS", 3)

    def task(config):
        return paper.training.Classification(data.load(""), part.network, config.norm)

    configs = paper.plan.configs(
        ("gn",),
        paper.Size(1, (4, 1), 1),
        part.rates,
        devices=8,
        available=256,
        parallelism="vmap",
    )
    assert paper.fitting(configs, task, 0.0) == 1
    assert paper.fitting(configs, task, 3600.0) == 3
