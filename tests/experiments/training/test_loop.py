"""Interruption and resumption, and what is on disk meanwhile."""

import json
import signal
from typing import Any

import jax
import numpy as np
import pytest

from experiments.training import Classification, Program, loop, train
from tests.experiments.training import tiny

CONFIG = tiny.config(norm="bn", epochs=4)


@pytest.fixture(scope="module")
def program():
    return Program(Classification(tiny.dataset(), tiny.Network, "bn"), CONFIG)


class _Meddled:
    """A program that calls ``meddle`` within its dispatch number ``at``."""

    def __init__(self, program, at, meddle):
        self.program, self.at, self.meddle = program, at, meddle
        self.task, self.calls, self.last = program.task, 0, None

    def __getattr__(self, name):
        return getattr(self.program, name)

    def train(self, state, batch):
        self.calls += 1
        if self.calls == self.at:
            self.meddle()
        self.last = self.program.train(state, batch)
        return self.last


def _meddled(*arguments) -> Any:
    return _Meddled(*arguments)


@pytest.fixture
def one_step_at_a_time(monkeypatch):
    """So that an interruption can fall within an epoch."""
    monkeypatch.setattr("experiments.training.config.MOST_STEPS_AT_ONCE", 1)


def _numbers(records):
    return [{k: v for k, v in r.items() if k != "seconds"} for r in records]


@pytest.mark.usefixtures("one_step_at_a_time")
@pytest.mark.parametrize("at", [1, 6, 8])
def test_a_run_that_was_interrupted_ends_with_the_same_bits(tmp_path, program, at):
    """A real SIGINT: in the first step, within an epoch, and in an epoch's last."""
    undisturbed = _meddled(program, 0, None)
    want = train(CONFIG, undisturbed, tmp_path / "a")
    interrupted = _meddled(program, at, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, interrupted, tmp_path / "b")
    assert interrupted.calls == at
    resumed = _meddled(program, 0, None)
    got = train(CONFIG, resumed, tmp_path / "b", resume=True)
    assert resumed.calls == CONFIG.steps - at
    assert _numbers(got) == _numbers(want)
    leaves = (jax.tree.leaves(run.last[0]) for run in (resumed, undisturbed))
    for a, b in zip(*leaves, strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    assert _numbers(loop.read_epochs(tmp_path / "b")) == _numbers(want)


def test_a_run_that_was_killed_keeps_its_epochs_and_goes_on_from_its_checkpoint(
    tmp_path, program, monkeypatch
):
    want = train(CONFIG, program, tmp_path / "a")
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)  # after every dispatch

    def die():
        raise SystemExit

    with pytest.raises(SystemExit):
        train(CONFIG, _meddled(program, 4, die), tmp_path / "b")
    assert _numbers(loop.read_epochs(tmp_path / "b")) == _numbers(want[:3])
    with (tmp_path / "b" / "epochs.jsonl").open("a") as lines:
        lines.write('{"epoch": 4, "exam')  # cut short
    assert len(loop.read_epochs(tmp_path / "b")) == 3
    resumed = _meddled(program, 0, None)
    assert _numbers(train(CONFIG, resumed, tmp_path / "b", resume=True)) == _numbers(
        want
    )
    assert resumed.calls == 1


def test_epochs_without_a_checkpoint_are_made_again(tmp_path, program):
    want = train(CONFIG, program, tmp_path)
    lines = (tmp_path / "epochs.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "epochs.jsonl").write_text("".join(lines[:2]))
    again = _meddled(program, 0, None)
    assert _numbers(train(CONFIG, again, tmp_path, resume=True)) == _numbers(want)
    assert again.calls == CONFIG.epochs


def test_a_finished_run_is_not_run_again(tmp_path, program):
    want = train(CONFIG, program, tmp_path)
    again = _meddled(program, 0, None)
    assert train(CONFIG, again, tmp_path, resume=True) == want
    assert again.calls == 0
    assert not (tmp_path / "checkpoint").exists()


def test_the_trained_state_is_handed_over_before_a_run_counts_as_finished(
    tmp_path, program
):
    seen = []

    def fail(state):
        seen.append(state)
        raise SystemExit

    with pytest.raises(SystemExit):
        train(CONFIG, program, tmp_path, at_end=fail)
    assert len(loop.read_epochs(tmp_path)) == CONFIG.epochs - 1
    meddled = _meddled(program, 0, None)
    train(CONFIG, meddled, tmp_path, resume=True, at_end=seen.append)
    assert len(seen) == 2
    for a, b in zip(*(jax.tree.leaves(state) for state in seen), strict=True):
        np.testing.assert_array_equal(a, b)
    # A finished run is not measured again.
    train(CONFIG, program, tmp_path, resume=True, at_end=fail)


def test_a_second_interruption_comes_through_at_once(tmp_path, program):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    meddled = _meddled(program, 2, twice)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, meddled, tmp_path)
    assert not list((tmp_path / "checkpoint").iterdir())
    assert signal.getsignal(signal.SIGINT) is before


def test_the_records_say_what_was_seen(tmp_path, program):
    records = train(CONFIG, program, tmp_path)
    assert [r["epoch"] for r in records] == [1, 2, 3, 4]
    assert [r["examples"] for r in records] == [64, 128, 192, 256]
    assert records[-1]["train_loss"] < records[0]["train_loss"]
    assert 0 <= records[-1]["test_errors"] <= 1
    lines = (tmp_path / "epochs.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == records


def test_seeds_differ(tmp_path, program):
    a = train(CONFIG, program, tmp_path / "a")
    b = train(tiny.config(norm="bn", epochs=4, seed=1), program, tmp_path / "b")
    assert a[0]["train_loss"] != b[0]["train_loss"]
