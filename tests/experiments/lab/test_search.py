"""Where the rates come from: the split, the trials, and the committed searches."""

import json
from typing import Any

import numpy as np
import pytest

from experiments import training
from experiments.depth import recipe as depth
from experiments.depth import trial as depth_trial
from experiments.detection import recipe as detection
from experiments.detection import trial as detection_trial
from experiments.finetune import recipe as finetune
from experiments.finetune import trial as finetune_trial
from experiments.groups import recipe as groups
from experiments.lab import pilot, search
from experiments.norms import recipe as norms
from experiments.small_batch import recipe
from tests.experiments.detection import tiny as detection_tiny
from tests.experiments.training import tiny

SEARCHED = [(name, norm) for name, of in search.SEARCHED.items() for norm in of.norms]
# What each recipe trains with, by the names of the search.
TAKEN = {
    "small_batch": recipe.RATES,
    "norms": norms.RATES,
    "groups": {"groups32": groups.RATES["groups1"]},
    "depth": {
        **{f"resnet-{norm}": rate for norm, rate in depth.RATES.items()},
        **{f"vgg-{norm}": rate for norm, rate in depth.VGG_RATES.items()},
    },
    "finetune": finetune.RATES,
    "detection": detection.SETS["trees"].rates,
}


@pytest.mark.parametrize(("experiment", "norm"), SEARCHED)
def test_the_committed_searches_are_alike(experiment, norm):
    of = search.SEARCHED[experiment]
    found = json.loads(search.path(experiment, norm).read_text())["results"]
    assert [row["config"]["rate"] for row in found] == list(of.rates)
    assert {row["config"]["epochs"] for row in found} == {of.epochs}
    assert {row["config"]["seed"] for row in found} == {search.SEED}
    assert {row["config"]["devices"] for row in found} == {of.devices}
    assert len({row["config"]["norm"] for row in found}) == 1
    assert len({row["config"]["batch"] for row in found}) == 1
    least = min(row["error"] for row in found)
    best = search.best(experiment, norm)
    assert least in [row["error"] for row in found if row["config"]["rate"] == best]
    assert search.SEED not in range(recipe.SIZES["full"].seeds)


@pytest.mark.parametrize("experiment", search.SEARCHED)
def test_the_recipes_take_what_the_searches_found(experiment):
    assert TAKEN[experiment] == {
        norm: search.best(experiment, norm)
        for norm in search.SEARCHED[experiment].norms
    }
    assert len(set(groups.RATES.values())) == 1


def test_the_search_judges_by_training_images_that_it_does_not_train_on():
    dataset = tiny.dataset(train=2100)
    split = search.split(dataset)
    assert (len(split.train_labels), len(split.test_labels)) == (100, 2000)
    both = np.concatenate([split.train_images, split.test_images])

    def rows(images):
        return sorted(image.tobytes() for image in images)

    assert rows(both) == rows(dataset.train_images)


@pytest.fixture
def few(monkeypatch):
    """300 images to train on, and a small network."""
    monkeypatch.setattr(search.data, "load", lambda *_: tiny.dataset(train=2300))
    monkeypatch.setattr(recipe, "network", tiny.Network)


def _lengths(out):
    return [row["config"]["epochs"] for row in json.loads(out.read_text())["results"]]


@pytest.mark.usefixtures("few")
def test_a_search_goes_over_rates_and_epochs_and_is_resumed(tmp_path, capsys):
    out = tmp_path / "searched.json"
    argv = ["small_batch", "--norms", "gn", "--rates", "0.4", "--out", str(out)]
    assert search.main([*argv, "--epochs", "2"]) == 0
    assert _lengths(out) == [2]
    assert "2 epochs  error" in capsys.readouterr().out
    assert search.main([*argv, "--epochs", "1", "2", "--resume"]) == 0
    assert _lengths(out) == [1, 2]
    told = capsys.readouterr().out
    assert "1 epochs  error" in told
    assert "2 epochs  error" not in told


@pytest.mark.usefixtures("few")
def test_a_pilot_takes_the_searched_rate(tmp_path, monkeypatch):
    of = pilot.Pilot("ln", "layer norm", (1, 2), rated="in")
    monkeypatch.setitem(pilot.PILOTS, "norms", (of,))
    out = tmp_path / "pilot.json"
    assert search.main(["norms", "--pilot", "--out", str(out)]) == 0
    assert _lengths(out) == [1, 2]
    [rate] = {row["config"]["rate"] for row in json.loads(out.read_text())["results"]}
    assert rate == search.best("norms", "in") != search.best("norms", "ln")


@pytest.mark.parametrize(
    ("options", "known"),
    [((), ["bn", "ln", "in", "gn"]), (("--pilot",), ["ln"])],
    ids=["rates", "pilot"],
)
def test_norms_that_are_not_searched_are_refused(options, known, capsys):
    with pytest.raises(SystemExit):
        search.main(["norms", *options, "--norms", "frozen"])
    said = capsys.readouterr().err
    assert f"argument --norms: expected some of {known}, got ['frozen']" in said


@pytest.mark.usefixtures("few")
def test_a_searched_network_is_the_one_of_its_name(monkeypatch, tmp_path):
    monkeypatch.setitem(depth.NETWORKS, "vgg", tiny.Network)
    found = depth_trial.trial("vgg-none", tmp_path)
    task: Any = found.task
    assert task.network is tiny.Network
    assert (task.norm, found.config.norm) == ("none", "none")
    assert (found.config.network, found.config.batch) == ("vgg", 32)


@pytest.mark.usefixtures("few")
def test_finetuning_is_searched_from_a_network_of_the_kept_images(
    monkeypatch, tmp_path
):
    monkeypatch.setitem(finetune.EPOCHS_BEFORE, "default", 1)
    trained, train = [], training.train

    def noted(config, program, *args, **more):
        trained.append((config, program.task))
        return train(config, program, *args, **more)

    monkeypatch.setattr(training, "train", noted)
    plain = finetune_trial.trial("frozen", tmp_path)
    again = finetune_trial.trial("gn+ws", tmp_path)
    [(config, task)] = trained  # once for all arms
    assert (config.norm, config.batch, config.seed) == ("bn", 32, search.SEED)
    assert len(task.dataset.train_labels) == 300
    assert (plain.config.norm, plain.config.batch) == ("frozen", 2)
    assert (again.config.norm, again.config.network) == ("gn", "ws")
    (kernel, _), (converted, left) = plain.task.init(0), again.task.init(0)
    np.testing.assert_array_equal(kernel["conv"]["kernel"], converted["conv"]["kernel"])
    assert left == {}


def test_detection_is_searched_above_the_strip_of_the_record(monkeypatch, tmp_path):
    detection_tiny.install(monkeypatch, tmp_path)
    monkeypatch.setattr(detection_trial, "ROWS", 1)
    of = detection.SETS["trees"]
    sites: Any = of.sites(None, None)
    found = detection_trial.trial("gn", tmp_path / "first")
    task: Any = found.task
    picture, kept = sites.second.picture.image, task.source.picture.image
    side = of.shape.side
    np.testing.assert_array_equal(kept, picture[:-side])
    [test] = task.test.batches(len(task.test))
    np.testing.assert_array_equal(test.images[0], picture[-side:, :side])
    assert (found.config.norm, found.config.batch) == ("gn", 1)
    assert found.config.seed == search.SEED


@pytest.mark.parametrize(
    ("epoch", "error"), [({"test_errors": 0.25}, 0.25), ({"test_ap": 0.25}, 0.75)]
)
def test_what_is_searched_for_is_least_where_it_is_best(epoch, error):
    assert search.error_of(epoch) == error
