"""Deeper networks: the percentiles, and the rules on records by hand."""

import jax
import numpy as np
import pytest

from experiments.depth import report
from experiments.depth.task import PERCENTILES, Watched
from experiments.training import Program
from tests.experiments.depth.sowing import Sowing
from tests.experiments.lab.ruled import F, H, rulings, two_seeds
from tests.experiments.training import tiny


def test_the_percentiles_are_of_the_test_images_alone():
    dataset = tiny.dataset(test=21)  # which leaves the last batch padded
    task = Watched(dataset, Sowing, "gn")
    program = Program(task, tiny.config())
    state = jax.device_get(program.init(0))
    got = program.evaluate(program.place(state))
    kernel = state.params["conv"]["kernel"]
    x = (dataset.test_images / 255 - dataset.mean) / dataset.std
    features = jax.lax.conv_general_dilated(
        x.astype(np.float32),
        kernel,
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    want = np.percentile(features, PERCENTILES)
    np.testing.assert_allclose(
        [got[f"percentile{q}"] for q in PERCENTILES], want, rtol=1e-4, atol=1e-5
    )
    assert 0 <= got["errors"] <= 1


def _record(vgg, resnet, growth):
    rows = [
        {"network": "resnet", "norm": norm, "batch": batch, "seed": 0, "epochs": 2}
        | {"curve": {"test_errors": [0.9, error]}}
        for (norm, batch), error in resnet.items()
    ]
    for norm, error in vgg.items():
        curve = {"test_errors": [0.9, error]}
        for q, sign in zip(PERCENTILES, (-1, 0, 0, 1), strict=True):
            curve[f"test_percentile{q}"] = [sign, sign * growth[norm]]
        row = {"network": "vgg", "norm": norm, "batch": 32, "seed": 0, "epochs": 2}
        rows.append(row | {"curve": curve})
    return {"runs": rows}


@pytest.mark.parametrize("held", [True, False])
def test_the_verdicts(held):
    good, bad = (0.1, 0.2) if held else (0.2, 0.1)
    record = _record(
        {"none": bad, "bn": 0.15, "gn": 0.14 if held else 0.16},
        {("bn", 32): 0.15, ("gn", 32): 0.15, ("bn", 2): bad, ("gn", 2): good},
        {"none": 3.0 if held else 1.0, "bn": 2.0, "gn": 1.5},
    )
    assert set(rulings(report.verdicts(two_seeds(record)))) == {H if held else F}
