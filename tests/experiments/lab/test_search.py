"""Where the rates come from: the split, and the committed searches."""

import json

import numpy as np
import pytest

from experiments.groups import recipe as groups
from experiments.lab import search
from experiments.small_batch import recipe
from tests.experiments.training import tiny

SEARCHED = [
    (name, norm) for name, (_, norms) in search.SEARCHED.items() for norm in norms
]


@pytest.mark.parametrize(("experiment", "norm"), SEARCHED)
def test_the_committed_searches_are_alike(experiment, norm):
    found = json.loads(search.path(experiment, norm).read_text())["results"]
    assert [row["config"]["rate"] for row in found] == list(search.RATES)
    assert {row["config"]["norm"] for row in found} == {norm}
    assert {row["config"]["seed"] for row in found} == {search.SEED}
    assert {row["config"]["batch"] for row in found} == {search.BATCH}
    assert {row["config"]["devices"] for row in found} == {recipe.DEVICES}
    least = min(row["error"] for row in found)
    best = search.best(experiment, norm)
    assert least in [row["error"] for row in found if row["config"]["rate"] == best]
    assert search.SEED not in range(recipe.SIZES["full"].seeds)


def test_the_recipes_take_what_the_searches_found():
    for norm in ("bn", "gn", "ln", "in"):
        assert recipe.RATES[norm] == search.best("small_batch", norm)
    assert set(groups.RATES.values()) == {search.best("groups", "groups32")}


def test_the_search_judges_by_training_images_that_it_does_not_train_on():
    dataset = tiny.dataset(train=2100)
    split = search.split(dataset)
    assert (len(split.train_labels), len(split.test_labels)) == (100, 2000)
    both = np.concatenate([split.train_images, split.test_images])

    def rows(images):
        return sorted(image.tobytes() for image in images)

    assert rows(both) == rows(dataset.train_images)


def test_a_pilot_is_a_search_over_epochs(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(search.data, "load", lambda *_: tiny.dataset(train=2300))
    monkeypatch.setattr(recipe, "network", tiny.Network)
    out = tmp_path / "pilot.json"
    argv = ["small_batch", "--norms", "gn", "--rates", "0.4", "--epochs", "1", "2"]
    assert search.main([*argv, "--out", str(out)]) == 0
    found = json.loads(out.read_text())["results"]
    assert [row["config"]["epochs"] for row in found] == [1, 2]
    assert "2 epochs  error" in capsys.readouterr().out
