"""A batch-norm network becomes a group-norm network."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import flax_gn
from flax_gn import convert
from flax_gn import linen as linen_layers
from flax_gn import nnx as nnx_layers


def test_rule_is_the_most_groups_that_are_no_instance_norm():
    for c in range(1, 3000):
        allowed = [g for g in range(1, 33) if c % g == 0 and (c // g > 1 or g == 1)]
        assert convert.choose_groups(c) == max(allowed)


@pytest.mark.parametrize("channels", [64, 128, 256, 512, 1024, 2048])
def test_rule_is_the_papers_on_the_papers_layers(channels):
    assert convert.choose_groups(channels) == 32


def test_rule_aims_where_it_is_told():
    assert [convert.choose_groups(48, at_most) for at_most in (1, 5, 8)] == [1, 4, 8]


@pytest.mark.parametrize("arguments", [(0,), (-4,), (8, 0)])
def test_rule_refuses_what_has_no_groups(arguments):
    with pytest.raises(ValueError, match="at least 1; got channels"):
        convert.choose_groups(*arguments)


def statistics(channels=12, seed=0):
    rng = np.random.default_rng(seed)
    values = {
        "mean": rng.normal(2, 3, channels),
        "var": rng.uniform(0.5, 4, channels),
        "scale": rng.normal(1, 0.5, channels),
        "bias": rng.normal(0, 1, channels),
    }
    return {name: jnp.asarray(value, jnp.float32) for name, value in values.items()}


def sample_with(stats, positions=64):
    """A batch whose every sample has exactly these channel means and variances."""
    x = np.random.default_rng(1).standard_normal((2, positions, len(stats["mean"])))
    x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    x = x * np.sqrt(stats["var"]) + np.asarray(stats["mean"])
    return jnp.asarray(x, jnp.float32)


def batch_norm(stats, **options):
    layer = nnx.BatchNorm(len(stats["mean"]), rngs=nnx.Rngs(0), **options)
    for name, value in stats.items():
        if getattr(layer, name) is not None:
            getattr(layer, name)[...] = value
    return layer


def the_norm(model: nnx.Sequential) -> Any:
    return model.layers[0]


class Shared(nnx.Module):
    """Batch norms in every kind of place, one of them in two."""

    def __init__(self):
        self.first = batch_norm(statistics(seed=1))
        self.again = self.first
        self.listed = nnx.List([batch_norm(statistics(seed=2))])
        self.plain: Any = nnx.data([{"inner": batch_norm(statistics(seed=3))}, 5])
        self.named = nnx.Dict(norm=batch_norm(statistics(seed=4)))
        self.activation = nnx.relu

    def norms(self) -> tuple[Any, ...]:
        return (
            self.first,
            self.again,
            self.listed[0],
            self.plain[0]["inner"],
            self.named["norm"],
        )

    def __call__(self, x):
        for norm in self.norms():
            x = norm(x, use_running_average=True)
        return self.activation(x)


@pytest.mark.needs(flax="0.12.0")
def test_nnx_replaces_every_batch_norm_and_keeps_its_parameters():
    model = Shared()
    before = [(norm.scale, norm.bias) for norm in model.norms()]
    report = convert.nnx_model(model)
    paths = [change.path for change in report.changes]
    assert paths == ["first", "listed.0", "plain.0.inner", "named.norm"]
    assert model.first is model.again
    for norm, (scale, bias) in zip(model.norms(), before, strict=True):
        assert isinstance(norm, nnx_layers.GroupNorm)
        assert norm.scale is scale
        assert norm.bias is bias
        assert norm.num_groups == 6
    assert model.plain[1] == 5
    assert not jax.tree.leaves(nnx.state(model, nnx.BatchStat))


@pytest.mark.needs(flax="0.12.0")
def test_nnx_model_computes_group_norms_afterwards():
    model = Shared()
    convert.nnx_model(model)
    x = expected = jax.random.normal(jax.random.key(0), (2, 5, 12))
    for norm in model.norms():
        expected = flax_gn.group_norm(expected, norm.scale[...], norm.bias[...], 6)
    y = nnx.jit(lambda model, x: model(x))(model, x)
    np.testing.assert_allclose(y, nnx.relu(expected), atol=1e-5)


def test_nnx_carries_the_options_that_mean_the_same():
    source = batch_norm(
        statistics(),
        epsilon=0.5,
        dtype=jnp.bfloat16,
        use_bias=False,
        axis_name="batch",  # the batch's devices, not a sample's: stays behind
    )
    model = nnx.Sequential(source)
    convert.nnx_model(model)
    norm = the_norm(model)
    assert (norm.epsilon, norm.dtype, norm.bias) == (0.5, jnp.bfloat16, None)
    assert norm.axis_name is None
    assert norm(jnp.ones((1, 4, 12))).dtype == jnp.bfloat16


def test_nnx_layers_stacked_by_vmap_convert():
    @nnx.vmap(in_axes=0, out_axes=0)
    def make(scale):
        layer = nnx.Sequential(nnx.BatchNorm(8, rngs=nnx.Rngs(0)))
        the_norm(layer).scale[...] = scale
        return layer

    scales = jax.random.normal(jax.random.key(0), (3, 8))
    model = make(scales)
    convert.nnx_model(model)
    xs = jax.random.normal(jax.random.key(1), (3, 2, 5, 8))
    ys = nnx.vmap(lambda model, x: model(x))(model, xs)
    for y, x, scale in zip(ys, xs, scales, strict=True):
        expected = flax_gn.group_norm(x, scale, None, 4)
        np.testing.assert_allclose(y, expected, atol=1e-6)


@pytest.mark.parametrize("use_scale", [True, False])
@pytest.mark.parametrize("use_bias", [True, False])
def test_nnx_folded_equals_batch_norm_where_the_statistics_are_the_running_ones(
    use_scale, use_bias
):
    stats = statistics()
    model = nnx.Sequential(batch_norm(stats, use_scale=use_scale, use_bias=use_bias))
    model.eval()
    x = sample_with(stats)
    expected = model(x)
    convert.nnx_model(model, fold=True)
    np.testing.assert_allclose(model(x), expected, atol=2e-5)


def test_unfolded_differs_there():
    stats = statistics()
    model = nnx.Sequential(batch_norm(stats))
    model.eval()
    x = sample_with(stats)
    expected = model(x)
    convert.nnx_model(model)
    assert np.abs(model(x) - expected).max() > 0.1


def test_folding_with_one_channel_per_group_changes_nothing():
    model = nnx.Sequential(batch_norm(statistics()))
    scale, bias = the_norm(model).scale[...], the_norm(model).bias[...]
    convert.nnx_model(model, groups=lambda channels: channels, fold=True)
    norm = the_norm(model)
    np.testing.assert_allclose(norm.scale[...], scale, rtol=1e-6)
    np.testing.assert_allclose(norm.bias[...], bias, rtol=1e-6)


def test_folding_leaves_the_source_variables_alone():
    source: Any = batch_norm(statistics())
    variable, before = source.scale, source.scale[...]
    convert.nnx_model(nnx.Sequential(source), fold=True)
    assert source.scale is not variable
    np.testing.assert_array_equal(variable[...], before)


def test_nnx_takes_any_rule():
    model = nnx.Sequential(batch_norm(statistics(48)))
    convert.nnx_model(model, groups=functools.partial(math.gcd, 32))
    assert the_norm(model).num_groups == 16


def test_nnx_refuses_channels_that_are_not_last_and_changes_nothing():
    model = nnx.Sequential(
        batch_norm(statistics()), nnx.BatchNorm(12, axis=1, rngs=nnx.Rngs(0))
    )
    with pytest.raises(ValueError, match=r"layers\.1 must have .* got axis=1"):
        convert.nnx_model(model)
    assert isinstance(model.layers[0], nnx.BatchNorm)


def test_nnx_converts_a_batch_norm_alone():
    norm: Any = batch_norm(statistics())
    report = convert.nnx_model(norm)
    assert report == convert.Report((convert.Change("", 12, 6, 1e-5, folded=False),))
    assert isinstance(norm, nnx_layers.GroupNorm)


def test_report_prints_as_a_table():
    report = convert.nnx_model(nnx.Sequential(nnx.relu, batch_norm(statistics())))
    assert str(report).splitlines() == [
        "path      channels  groups  epsilon  folded",
        "layers.1        12       6    1e-05   False",
        "1 batch norm became group norm.",
    ]
    assert str(convert.nnx_model(nnx.Sequential(nnx.relu))).splitlines() == [
        "path  channels  groups  epsilon  folded",
        "0 batch norms became group norm.",
    ]


class Net(nn.Module):
    """Takes its norm as an argument; names some layers and leaves others to linen."""

    norm: Any = nn.BatchNorm
    train: bool = False

    @nn.compact
    def __call__(self, x):
        norm = functools.partial(
            self.norm, use_running_average=not self.train, momentum=0.9, epsilon=1e-3
        )
        x = norm(name="stem")(nn.Conv(12, (3,))(x))
        x = norm()(nn.Conv(24, (3,))(x))
        return norm()(nn.Conv(7, (3,))(x))


def net_variables(key=0):
    """Variables of the batch-norm net, every leaf random."""
    variables = Net().init(jax.random.key(key), jnp.ones((1, 9, 3)))
    leaves, tree = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(key + 1), len(leaves))
    values = [
        jax.random.uniform(k, leaf.shape, minval=0.5, maxval=2)
        for k, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, values)


def test_linen_variables_fit_the_model_with_another_norm():
    old = net_variables()
    new, report = convert.linen_variables(old, epsilon=1e-3)
    model = Net(norm=convert.linen_norm)
    x = jax.random.normal(jax.random.key(2), (2, 9, 3))
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, shapes)
    for before, after in (
        ("stem", "stem"),
        ("BatchNorm_0", "GroupNorm_0"),
        ("BatchNorm_1", "GroupNorm_1"),
        ("Conv_0", "Conv_0"),
    ):
        assert_equal(old["params"][before], new["params"][after])
    assert [(c.path, c.channels, c.groups) for c in report.changes] == [
        ("BatchNorm_0", 24, 12),
        ("BatchNorm_1", 7, 1),
        ("stem", 12, 6),
    ]
    y: Any = model.apply(new, x)
    params = new["params"]
    expected: Any = x
    for i, (norm, groups) in enumerate(
        [("stem", 6), ("GroupNorm_0", 12), ("GroupNorm_1", 1)]
    ):
        conv = nn.Conv((12, 24, 7)[i], (3,))
        expected = conv.apply({"params": params[f"Conv_{i}"]}, expected)
        expected = flax_gn.group_norm(
            expected, params[norm]["scale"], params[norm]["bias"], groups, eps=1e-3
        )
    np.testing.assert_allclose(y, expected, atol=1e-5)


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(left, right)


def test_linen_folded_equals_batch_norm_where_the_statistics_are_the_running_ones():
    stats = statistics()
    variables = {
        "params": {name: stats[name] for name in ("scale", "bias")},
        "batch_stats": {name: stats[name] for name in ("mean", "var")},
    }
    x = sample_with(stats)
    expected: Any = nn.BatchNorm(use_running_average=True).apply(variables, x)
    new, report = convert.linen_variables(variables, fold=True)
    assert report.changes == (convert.Change("", 12, 6, 1e-5, folded=True),)
    y: Any = convert.linen_norm().apply(new, x)
    np.testing.assert_allclose(y, expected, atol=2e-5)


def test_linen_boxes_and_other_collections_survive():
    def boxed(init):
        return nn.with_partitioning(init, ("model",))

    layer = nn.BatchNorm(
        use_running_average=True,
        scale_init=boxed(nn.initializers.ones),
        bias_init=boxed(nn.initializers.zeros),
    )
    variables = layer.init(jax.random.key(0), jnp.ones((2, 12)))
    variables = {**variables, "cache": {"index": jnp.zeros(())}}
    for fold in (False, True):
        new, _ = convert.linen_variables(variables, fold=fold)
        assert set(new) == {"params", "cache"}
        assert new["params"]["scale"].names == ("model",)
        np.testing.assert_allclose(new["params"]["scale"].unbox(), 1)


def test_linen_keeps_statistics_that_are_no_batch_norms():
    variables = net_variables()
    variables["batch_stats"]["Spectral_0"] = {"sigma": jnp.ones(())}
    new, _ = convert.linen_variables(variables)
    assert set(new["batch_stats"]) == {"Spectral_0"}


def test_linen_refuses_a_name_that_is_taken():
    variables = net_variables()
    variables["params"]["GroupNorm_0"] = {"scale": jnp.ones(3), "bias": jnp.ones(3)}
    with pytest.raises(ValueError, match="GroupNorm_0, which is already there"):
        convert.linen_variables(variables)
    new, _ = convert.linen_variables(variables, rename=lambda name: name + "_gn")
    assert {"stem_gn", "BatchNorm_0_gn", "GroupNorm_0"} <= set(new["params"])


def test_linen_refuses_variables_without_statistics():
    with pytest.raises(ValueError, match="'batch_stats' of a batch-norm model; got"):
        convert.linen_variables({"params": {}})


def test_linen_refuses_to_fold_without_a_bias():
    layer = nn.BatchNorm(use_running_average=True, use_bias=False)
    variables = layer.init(jax.random.key(0), jnp.ones((2, 12)))
    with pytest.raises(ValueError, match="has no bias"):
        convert.linen_variables(variables, fold=True)
    new, _ = convert.linen_variables(variables)
    assert set(new["params"]) == {"scale"}


def test_linen_norm_takes_batch_norms_arguments_and_calls():
    fields = {
        name: field.default
        for name, field in nn.BatchNorm.__dataclass_fields__.items()
        if name not in ("parent", "name")
    }
    assert set(fields) == {
        name
        for name in convert.linen_norm.__annotations__
        if name not in ("groups", "module", "return")
    }
    norm = convert.linen_norm(**{**fields, "axis_name": "batch", "epsilon": 0.5})
    x = jax.random.normal(jax.random.key(0), (2, 5, 12))
    y, _ = norm.init_with_output(jax.random.key(0), x, use_running_average=True)
    np.testing.assert_allclose(y, flax_gn.group_norm(x, groups=6, eps=0.5), atol=1e-6)


def test_linen_norm_refuses_channels_that_are_not_last():
    with pytest.raises(ValueError, match="axis must be -1"):
        convert.linen_norm(axis=1)


def test_layers_take_the_rule_in_place_of_a_number():
    x = jax.random.normal(jax.random.key(0), (2, 5, 48))
    layer = linen_layers.GroupNorm(num_groups=convert.choose_groups)
    y, _ = layer.init_with_output(jax.random.key(0), x)
    np.testing.assert_allclose(y, flax_gn.group_norm(x, groups=24, eps=1e-6), atol=1e-6)
