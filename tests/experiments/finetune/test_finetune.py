"""From batch norm to group norm: the weights, and the rules on records by hand."""

import numpy as np
import pytest

from experiments import training
from experiments.finetune import recipe, report, task
from experiments.training.program import State
from tests.experiments.lab.ruled import F, H, rulings, two_seeds
from tests.experiments.training import tiny


def test_a_converted_network_starts_from_the_trained_kernels(tmp_path):
    trained = training.Classification(tiny.dataset(), tiny.Network, "bn")
    params, stats = trained.init(3)
    task.save(tmp_path, State(params, stats, ()))
    tuned = task.Finetuning(
        tiny.dataset(), tiny.Network, "gn", folder=lambda _: tmp_path
    )
    got, left = tuned.init(3)
    assert left == {}
    np.testing.assert_array_equal(got["conv"]["kernel"], params["conv"]["kernel"])
    # Fresh averages are 0 and 1, so that folding changes nothing beyond round-off.
    np.testing.assert_allclose(got["norm"]["scale"], params["norm"]["scale"], rtol=1e-6)


def _record(**errors):
    rows = []
    for name, error in errors.items():
        norm, conv = recipe.ARMS[name]
        rows.append(
            {"norm": norm, "network": conv, "seed": 0, "epochs": 1}
            | {"curve": {"test_errors": [error]}, "measured": {"start_errors": 0.5}}
        )
    return {"runs": rows}


@pytest.mark.parametrize(
    ("errors", "held"),
    [
        ((0.13, 0.12, 0.11, 0.10), [H, H, H]),
        ((0.11, 0.12, 0.13, 0.14), [F, F, F]),
    ],
)
def test_the_verdicts(errors, held):
    record = _record(**dict(zip(recipe.ARMS, errors, strict=True)))
    assert rulings(report.verdicts(two_seeds(record))) == held
    assert report.table(record).splitlines()[2].startswith("| batch norm | 50.0 |")
