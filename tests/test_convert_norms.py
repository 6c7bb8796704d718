"""What a converted model is afterwards, and the norms that it may be given instead."""

import copy
import functools
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import flax_gn
from flax_gn import convert

C = 8
X = jax.random.normal(jax.random.key(0), (2, 5, C))


def layer() -> Any:
    return nnx.BatchNorm(C, use_running_average=True, rngs=nnx.Rngs(0))


def test_a_converted_model_lives_as_one_that_was_made_so():
    def make(norm):
        linear = nnx.Linear(C, C, rngs=nnx.Rngs(0))
        return nnx.Sequential(linear, norm(C, rngs=nnx.Rngs(0)))

    model = make(nnx.BatchNorm)
    convert.nnx_model(model)
    graph, state = nnx.split(model)
    assert graph == nnx.split(make(convert.nnx_norm))[0]
    expected = model(X)
    for other in (
        nnx.merge(graph, state),
        nnx.clone(model),
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
    ):
        np.testing.assert_array_equal(other(X), expected)

    @nnx.jit
    def made_inside():
        made = make(nnx.BatchNorm)
        convert.nnx_model(made)
        return made

    np.testing.assert_array_equal(made_inside()(X), expected)
    abstract: Any = nnx.eval_shape(lambda: make(nnx.BatchNorm))
    convert.nnx_model(abstract)
    assert nnx.split(abstract)[0] == graph


@pytest.mark.parametrize("make", ["converted", "nnx_norm"])
def test_training_and_evaluation_are_set_as_on_a_batch_norm(make):
    norm: Any = (
        layer() if make == "converted" else convert.nnx_norm(C, rngs=nnx.Rngs(0))
    )
    model = nnx.Sequential(norm)
    convert.nnx_model(model)
    expected = model(X)
    model.set_attributes(use_running_average=True)
    assert norm.use_running_average is True
    model.train()
    assert norm.use_running_average is False
    model.eval()
    assert norm.use_running_average is True
    view: Any = nnx.view(model, use_running_average=False)
    assert view.layers[0].use_running_average is False
    assert view.layers[0].scale is norm.scale
    np.testing.assert_array_equal(view(X), expected)
    y = nnx.view(model, use_running_average=True)(X)
    np.testing.assert_array_equal(y, expected)


# Every entry point with a number, or a rule, of groups; each gives the number taken.
class Net(nn.Module):
    norm: Any

    @nn.compact
    def __call__(self, x):
        return self.norm(name="stem")(x)


def by_model(groups):
    norm = layer()
    convert.nnx_model(nnx.Sequential(norm), groups=groups)
    return norm.num_groups


def by_nnx_norm(groups):
    return convert.nnx_norm(C, groups=groups, rngs=nnx.Rngs(0)).num_groups


def by_variables(groups):
    variables = Net(functools.partial(nn.BatchNorm, use_running_average=True)).init(
        jax.random.key(0), X
    )
    return convert.linen_variables(variables, groups=groups)[1].changes[0].groups


def by_linen_norm(groups):
    net = Net(functools.partial(convert.linen_norm, groups=groups))
    y, _ = net.init_with_output(jax.random.key(0), X)
    candidates = {g: flax_gn.group_norm(X, groups=g, eps=1e-5) for g in (1, 2, 4, 8)}
    return min(candidates, key=lambda g: float(jnp.abs(candidates[g] - y).max()))


ENTRIES = {
    by_model: "nnx_model: {} of the norm at layers.0;",
    by_nnx_norm: "nnx_norm: {};",
    by_variables: "linen_variables: {} of the norm at stem;",
    by_linen_norm: "linen_norm: {} of the norm at stem;",
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_groups_may_be_a_number_or_a_rule(entry):
    assert entry(2) == 2
    assert entry(np.int64(4)) == 4
    assert entry(lambda channels: channels // 4) == 2


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("groups", [3, 0, -2, 16])
def test_a_number_that_does_not_divide_is_refused_with_the_path(entry, groups):
    for given, name in ((groups, "groups"), (lambda _: groups, "groups(8)")):
        message = ENTRIES[entry].format(f"{name} must divide the 8 channels")
        with pytest.raises(ValueError, match=str(groups)) as error:
            entry(given)
        assert f"{message} got {groups}." in str(error.value)


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("groups", [2.0, True, None, "4"])
def test_groups_that_are_no_integer_are_refused(entry, groups):
    with pytest.raises(TypeError, match="must be an int, for the 8 channels"):
        entry(groups)


def test_a_model_that_is_refused_is_unchanged():
    model = nnx.Sequential(layer(), nnx.BatchNorm(7, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"7 channels of the norm at layers\.1; got 4"):
        convert.nnx_model(model, groups=4)
    assert type(model.layers[0]) is nnx.BatchNorm


def test_nnx_norm_takes_batch_norms_arguments():
    parameters = nnx.BatchNorm.__init__.__annotations__.keys() - {"return"}
    assert parameters == convert.nnx_norm.__annotations__.keys() - {"return", "groups"}
    norm: Any = convert.nnx_norm(
        C,
        use_running_average=True,
        momentum=0.9,
        epsilon=0.5,
        use_bias=False,
        axis_name="batch",
        scale_init=nnx.initializers.constant(2.0),
        scale_metadata={"note": "kept"},
        dtype=jnp.bfloat16,
        rngs=nnx.Rngs(0),
    )
    assert (norm.bias, norm.axis_name) == (None, None)
    assert norm.scale.get_metadata()["note"] == "kept"
    y = norm(X, use_running_average=False)
    assert y.dtype == jnp.bfloat16
    expected = flax_gn.group_norm(X, jnp.full(C, 2.0), None, 4, eps=0.5)
    np.testing.assert_allclose(y.astype(jnp.float32), expected, atol=0.02)


def test_nnx_norm_refuses_channels_that_are_not_last():
    with pytest.raises(ValueError, match="nnx_norm: axis must be -1"):
        convert.nnx_norm(C, axis=1, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("stats", "params", "reason"),
    [
        ({"sigma": 1}, {}, "it keeps sigma, and a batch norm keeps mean and var alone"),
        ({"mean": C}, {"scale": C}, "it keeps mean, and a batch norm"),
        (
            {"mean": C, "var": C, "steps": 1},
            {"scale": C, "bias": C},
            "it keeps mean, steps, var, and",
        ),
        (
            {"mean": C, "var": C},
            {"scale": C, "alpha": C},
            "its parameters are alpha, scale, and a batch norm's are scale and bias",
        ),
    ],
)
def test_linen_statistics_of_another_kind_stay_and_are_named(stats, params, reason):
    odd = [{k: jnp.ones(n) for k, n in part.items()} for part in (stats, params)]
    norm = (
        {k: jnp.ones(C) for k in ("scale", "bias")},
        {k: jnp.ones(C) for k in ("mean", "var")},
    )
    variables = {
        "params": {"Odd_0": odd[1], "BatchNorm_0": norm[0]},
        "batch_stats": {"Odd_0": odd[0], "BatchNorm_0": norm[1]},
    }
    new, report = convert.linen_variables(variables)
    assert [change.path for change in report.changes] == ["BatchNorm_0"]
    (left,) = report.left
    assert left.path == "Odd_0"
    assert reason in left.reason
    assert new["batch_stats"] == {"Odd_0": odd[0]}
    assert new["params"].get("Odd_0", {}) == odd[1]
    assert f"\n1 was left:\n  Odd_0: {left.reason}" in str(report)


def test_bridged_models_convert_by_their_variables():
    def net(norm):
        return nnx.bridge.ToLinen(norm, args=(C,), kwargs={"use_running_average": True})

    old = net(nnx.BatchNorm).init(jax.random.key(0), X)
    new, report = convert.linen_variables(old)
    assert [change.groups for change in report.changes] == [4]
    assert not report.left
    y: Any = net(convert.nnx_norm).apply(new, X)
    np.testing.assert_allclose(y, flax_gn.group_norm(X, groups=4), atol=1e-6)
