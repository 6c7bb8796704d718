"""The sweep of groups: its ends, and the rules on records by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.groups import recipe, report
from experiments.training.norms import NORMS
from tests.experiments.lab.ruled import F, H, rulings, two_seeds


@pytest.mark.parametrize(("end", "norm"), [("groups1", "ln"), ("channels1", "in")])
def test_the_ends_are_exactly_layer_norm_and_instance_norm(end, norm):
    x = jax.random.normal(jax.random.key(1), (1, 16, 16, 1))

    def shapes(name):
        model = recipe.network(norm=NORMS[name](True), classes=10)
        return jax.eval_shape(model.init, jax.random.key(0), x)["params"]

    assert shapes(end) == shapes(norm)
    draw = np.random.default_rng(0).standard_normal
    params = jax.tree.map(lambda s: draw(s.shape, np.float32), shapes(norm))

    @functools.partial(jax.jit, static_argnums=0)
    def outputs(name, params):
        def loss(params):
            model = recipe.network(norm=NORMS[name](True), classes=10)
            logits = model.apply({"params": params}, x)
            return jnp.sum(jnp.square(logits)), logits

        return jax.value_and_grad(loss, has_aux=True)(params)

    got, want = (jax.tree.leaves(outputs(name, params)) for name in (end, norm))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.any(a != 0)


def test_every_setting_is_legal_in_every_layer():
    x = jnp.ones((1, 28, 28, 1))
    for name in recipe.NORMS:
        model = recipe.network(norm=NORMS[name](True), classes=10)
        shapes = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
        widths = {k: v["scale"].shape for k, v in shapes.items() if "norm" in k}
        assert list(widths.values()) == [(64,), (64,), (128,)]


def _record(groups, channels):
    named = {f"groups{n}": e for n, e in zip((64, 8, 1), groups, strict=True)}
    named |= {f"channels{n}": e for n, e in zip((8, 4, 2, 1), channels, strict=True)}
    return {
        "runs": [
            {"norm": n, "seed": 0, "epochs": 1, "curve": {"test_errors": [e]}}
            for n, e in named.items()
        ]
    }


@pytest.mark.parametrize(
    ("groups", "channels", "held"),
    [
        ((0.10, 0.11, 0.12), (0.1, 0.11, 0.12, 0.2), [H, H, H]),
        ((0.10, 0.12, 0.11), (0.1, 0.11, 0.13, 0.12), [F, F, F]),
        ((0.10, 0.11, 0.12), (0.1, 0.12, 0.11, 0.2), [H, H, F]),
    ],
)
def test_the_verdicts(groups, channels, held):
    record = two_seeds(_record(groups, channels))
    assert rulings(report.verdicts(record)) == held
