"""Several hosts, for real: as processes of this machine that reach one another."""

import signal

import numpy as np
import pytest

from experiments.imagenet import journal
from tests.experiments.imagenet.runs import files, lines, parameters

pytestmark = pytest.mark.slow


def same_numbers(one, other):
    assert [list(entry) for entry in one] == [list(entry) for entry in other]
    for a, b in zip(one, other, strict=True):
        for name, value in a.items():
            if not isinstance(value, str):
                value = pytest.approx(value, rel=1e-5)
            assert b[name] == value, (a, b)


@pytest.fixture(scope="module")
def alone(start, tmp_path_factory):
    """The run on one host with four devices."""
    out = tmp_path_factory.mktemp("alone")
    (ended,) = start(out, devices=4)
    assert ended.status == 0, ended.printed
    return out


@pytest.fixture(scope="module")
def together(start, tmp_path_factory):
    """The run on two hosts with two devices each."""
    out = tmp_path_factory.mktemp("together")
    ended = start(out, hosts=2, devices=2)
    assert [e.status for e in ended] == [0, 0], ended
    return out, ended


def test_two_hosts_have_the_losses_of_one(alone, together):
    out, _ = together
    same_numbers(lines(out), lines(alone))
    want = parameters(alone)
    for name, value in parameters(out).items():
        np.testing.assert_allclose(value, want[name], rtol=1e-4, atol=1e-6)


def test_four_hosts_have_the_losses_of_one(start, alone, tmp_path):
    ended = start(tmp_path, hosts=4)
    assert [e.status for e in ended] == [0] * 4, ended
    same_numbers(lines(tmp_path), lines(alone))


def test_one_host_writes(together):
    out, (first, second) = together
    assert "epoch 1: training loss" in first.printed
    assert "validation error" in first.printed
    assert "epoch" not in second.printed
    assert "images" not in second.printed  # of a progress bar
    assert files(out) == {"checkpoints", "metrics.jsonl", "plan.json", "tensorboard"}
    assert len(list((out / "tensorboard").iterdir())) == 1
    entries = journal.read(out)
    assert [e["step"] for e in entries if e["kind"] == "train"] == [*range(1, 11)]
    assert [e["epoch"] for e in entries if e["kind"] == "validation"] == [1, 2]


def test_stopped_and_killed_it_ends_with_the_very_same_parameters(
    start, together, tmp_path
):
    want, _ = together
    # A scheduler tells only the second host to stop; both do, after the same step.
    ended = start(tmp_path, hosts=2, devices=2, hooks={1: ("terminate", 3)})
    assert [e.status for e in ended] == [0, 0], ended
    assert "To go on:\n  python -m experiments.imagenet" in ended[0].printed
    assert str(tmp_path) in ended[0].printed
    assert files(tmp_path / "checkpoints") == {"2", "4"}
    # Any step, and either host, but the same ones whenever the tests run.
    chance = np.random.default_rng(6)
    step, host = int(chance.integers(6, 10)), int(chance.integers(2))
    ended = start(tmp_path, hosts=2, devices=2, hooks={host: ("kill", step)})
    assert ended[host].status == -signal.SIGKILL
    assert ended[1 - host].status != 0
    ended = start(tmp_path, hosts=2, devices=2)
    assert [e.status for e in ended] == [0, 0], ended
    got = parameters(tmp_path)
    for name, value in parameters(want).items():
        assert got[name].tobytes() == value.tobytes(), name
    assert lines(tmp_path) == lines(want)


def test_a_loss_that_is_not_finite_names_its_host(start, tmp_path):
    hooks = {0: ("floating", 2), 1: ("infinite", 2)}
    ended = start(tmp_path, hosts=2, devices=2, hooks=hooks)
    assert [e.status for e in ended] == [1, 1], ended
    for number in (0, 1):
        told = f"host {number}: step 2: not finite on host 1: loss "
        assert told in ended[number].printed
    assert files(tmp_path / "nonfinite") == {"step_2_host_0.npz", "step_2_host_1.npz"}
    assert files(tmp_path / "checkpoints") == {"1"}
