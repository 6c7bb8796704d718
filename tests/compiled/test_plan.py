"""Plans of training steps for devices that are not here, of a network that is small."""

import dataclasses
import functools

import pytest

from experiments.imagenet import networks
from experiments.imagenet.config import TRY
from experiments.plan import __main__ as program
from experiments.plan import step
from flax_gn import models
from tests.compiled.conftest import devices


@pytest.fixture(autouse=True)
def no_implicit_promotion():
    """Takes the place of the fixture for the library's tests, as in training."""


@pytest.fixture(autouse=True)
def small(monkeypatch):
    network = functools.partial(
        models.ResNet, stages=(1,), block=models.BasicBlock, width=16, stem="cifar"
    )
    monkeypatch.setitem(networks._BLOCKS, "resnet8", (network, models.BasicBlock))


CONFIG = dataclasses.replace(TRY, image_size=16, dtype="bfloat16")


def parameters():
    """Bytes of the parameters in float32: stem, two convolutions, norms, head."""
    return 4 * (9 * 3 * 16 + 2 * 9 * 16 * 16 + 3 * 2 * 16 + 16 * 10 + 10)


def test_a_pod_sends_the_gradients_once():
    devices("v5e", "v5e:2x4")
    made = step.make(CONFIG, "v5e:2x4", 8, 10)
    assert made is not None
    assert made.devices == 8
    # The gradients, and a few sums beside them.
    ((kind, _, size),) = made.collectives
    assert kind == "all-reduce"
    # Arrays as small as these are mostly padding, to tiles of 8 x 128.
    assert parameters() <= size <= 8 * 128 / 16 * parameters()
    # Parameters and momentum.
    assert made.arguments > 2 * parameters()
    assert made.temporaries > 0


def test_one_h100_sends_nothing_and_refuses_what_does_not_fit(monkeypatch):
    devices("h100")
    made = step.make(CONFIG, "h100", 32, 10)
    assert made is not None
    assert made.collectives == []
    # The images of a step are among its arguments.
    assert made.arguments > 2 * parameters() + 32 * 16 * 16 * 3
    monkeypatch.setitem(step.USABLE, "h100", made.memory - 1)
    assert step.make(CONFIG, "h100", 32, 10) is None


def test_a_wrong_topology(capsys):
    with pytest.raises(SystemExit):
        program.main(["--topology", "v99:2x2"])
    assert "expected a topology of h100, v4, v5e" in capsys.readouterr().err


def test_an_impossible_grid(capsys):
    devices("v5e")
    with pytest.raises(SystemExit):
        program.main(["--topology", "v5e:3x5"])
    assert "the compiler knows no topology v5e:3x5" in capsys.readouterr().err
