"""The paper's eight devices in one program, tried at a tiny size on a CPU."""

import dataclasses
import json

import pytest

from experiments import data, paper
from tests.experiments.training import tiny


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(data, "load", lambda *_: tiny.dataset(train=256))
    small_batch, *_ = paper.PARTS
    part = dataclasses.replace(small_batch, network=tiny.Network, batches=(4, 1))
    monkeypatch.setattr(paper, "PARTS", (part,))
    monkeypatch.setattr(paper, "MOST_EPOCHS", 2)


def test_what_is_not_reached_is_resumed(tmp_path, capsys):
    argv = ["--dataset", "fashion-mnist-subset", "--out", str(tmp_path), "--minutes"]
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


def test_the_time_decides_the_epochs():
    part = paper.PARTS[0]

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
    assert paper.fitting(configs, task, 3600.0) == paper.MOST_EPOCHS
