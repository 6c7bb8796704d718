"""Runs that start from weights that others trained."""

import dataclasses
import functools

import flax.traverse_util
import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from experiments.imagenet import __main__ as program
from experiments.imagenet import networks
from experiments.imagenet.config import TRY, Config
from experiments.imagenet.program import Program, mesh
from flax_gn import models
from flax_gn.linen import WSConv
from tests.experiments.imagenet import worker
from tests.experiments.imagenet.conftest import ARGUMENTS
from tests.experiments.imagenet.runs import lines, parameters

CONFIG = dataclasses.replace(TRY, batch=16, image_size=8)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    blocks = dict(networks._BLOCKS)
    monkeypatch.setattr("experiments.imagenet.networks._BLOCKS", blocks)
    worker.tiny()


@pytest.fixture(scope="module")
def state():
    """Of the tiny network with ten classes, under timm's names."""
    rng = np.random.default_rng(0)
    shapes = {
        "conv1.weight": (8, 3, 3, 3),
        "bn1.weight": (8,),
        "bn1.bias": (8,),
        **{f"layer1.0.conv{i}.weight": (8, 8, 3, 3) for i in (1, 2)},
        **{
            f"layer1.0.bn{i}.{leaf}": (8,)
            for i in (1, 2)
            for leaf in ("weight", "bias")
        },
        "fc.weight": (10, 8),
        "fc.bias": (10,),
    }
    return {n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}


@pytest.fixture(scope="module")
def weights(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(state, path)
    return str(path)


def start(config, classes=10):
    """The parameters before the first step, by name."""
    params = Program(config, classes, 5, mesh(jax.devices()[:2])).init().params
    return flax.traverse_util.flatten_dict(params, sep="/")


def test_a_run_starts_from_the_weights(state, weights):
    params = start(dataclasses.replace(CONFIG, weights=weights))
    np.testing.assert_array_equal(params["head/kernel"], state["fc.weight"].T)
    np.testing.assert_array_equal(
        params["stage1_block1/conv2/kernel"],
        state["layer1.0.conv2.weight"].transpose(2, 3, 1, 0),
    )
    assert all(len(a.sharding.device_set) == 2 for a in params.values())


def test_a_new_head_starts_anew(state, weights):
    params = start(dataclasses.replace(CONFIG, weights=weights, new_head=True), 3)
    drawn = start(CONFIG, 3)
    for name, value in params.items():
        assert np.array_equal(value, drawn[name]) == name.startswith("head/"), name
    np.testing.assert_array_equal(params["stem_norm/bias"], state["bn1.bias"])


def run(out, *more):
    return program.main([*ARGUMENTS, "--out", str(out), *more])


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("--weights {0}", "fc.weight (8, 10) for (8, 9)"),
        ("--weights {0}", "--new-head trains another head"),
        ("--weights {0}", "does not fit --network resnet8"),
        ("--weights {0} --network resnet18", "missing: layer1.1.conv1.weight"),
        ("--weights {0}.safetensors", "No such file"),
        ("--weights {0}.pth", "expected a .safetensors file or BiT's .npz"),
        ("--evaluate", "there are no --weights, and no checkpoints in"),
    ],
)
def test_what_cannot_be(weights, more, told, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("experiments.imagenet.data.builtin.Synthetic.classes", 9)
    assert run(tmp_path / "x", *more.format(weights).split()) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_new_head_needs_weights():
    with pytest.raises(ValueError, match="a new head is for a network with weights"):
        Config(new_head=True)


def test_evaluates_the_weights_and_then_what_is_trained_of_them(
    weights, tmp_path, capsys
):
    out = tmp_path / "run"
    assert run(out, "--weights", weights, "--evaluate") == 0
    untrained = capsys.readouterr().out
    assert "median" not in untrained
    assert lines(out) == []
    assert run(out, "--weights", weights, "--epochs", "2") == 0
    (*_, trained) = lines(out)
    assert trained["kind"] == "validation"
    capsys.readouterr()
    assert run(out, "--weights", weights, "--evaluate") == 0
    told = f"validation error {100 * trained['error']:.2f}%\n"
    assert capsys.readouterr().out.endswith(told)
    assert not untrained.endswith(told)
    assert len(parameters(out)) > 0


@pytest.mark.parametrize(
    ("network", "low", "high"),
    [("resnet50", -2.1179, 2.64), ("resnetv2_50x1_bit", -1.0, 1.0)],
)
def test_pixels_are_standardised_as_the_network_knows_them(network, low, high):
    images = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1).repeat(3, axis=-1)
    config = Config(network=network)
    got = np.asarray(networks.standardised(config, images))
    assert got.min() == pytest.approx(low, abs=1e-4)
    assert got.max() == pytest.approx(high, abs=1e-4)


@pytest.mark.parametrize("remat", [False, True])
def test_a_pre_activation_network_is_built(remat, monkeypatch):
    make = functools.partial(models.ResNetV2, stages=(1,), width=8)
    block = models.PreActivationBlock
    monkeypatch.setitem(networks._BLOCKS, "resnetv2_50x1_bit", (make, block))
    config = dataclasses.replace(CONFIG, network="resnetv2_50x1_bit", remat=remat)
    params = start(config)
    assert params["stage1_block1/shortcut_conv/kernel"].shape == (1, 1, 8, 32)


def test_bits_networks_keep_their_epsilon_where_convolutions_are_products():
    config = dataclasses.replace(
        CONFIG, network="resnetv2_50x1_bit", groups=32, group_size=None
    )
    model = networks.build(config, 10, "cpu", training=False)
    assert (model.conv.keywords["epsilon"], model.conv.func) == (1e-8, WSConv)
