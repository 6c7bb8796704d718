"""Several devices: split batches, and samples whose parts lie on different devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from flax_gn import group_norm, group_stats
from tests import check, oracle
from tests.cases import IMPLEMENTATIONS, LITERAL, Case, function, inputs

DEVICES = 8
ACCURATE = [name for name in IMPLEMENTATIONS if name not in LITERAL]

BATCH = Case("batch", (DEVICES, 3, 2, 8), 2, activation="silu")
SPATIAL = Case("spatial", (2, 16, 3, 8), 2)
SPATIAL_CASES = [
    SPATIAL,
    Case("spatial_silu", (2, 16, 3, 8), 2, activation="silu"),
    Case("spatial_mask", (2, 16, 3, 8), 2, mask="full", activation="silu"),
    Case("spatial_column", (2, 16, 3, 8), 4, mask="column"),
    Case("spatial_empty", (2, 16, 3, 8), 2, mask="empty"),
    Case("spatial_per_sample", (2, 16, 8), 2, gamma="sample", beta="sample"),
    Case("spatial_bfloat16", (2, 16, 3, 8), 2, "bfloat16"),
]


@pytest.fixture(autouse=True)
def eight_devices():
    assert jax.device_count() == DEVICES, "the tests' conftest makes 8 CPU devices"


def _mesh(*axes):
    names, sizes = zip(*axes, strict=True)
    return jax.make_mesh(
        sizes, names, axis_types=(jax.sharding.AxisType.Auto,) * len(axes)
    )


def _parts(array, axis=1):
    """Splits an array for pmap: the devices come first."""
    return np.stack(np.split(np.asarray(array), DEVICES, axis))


def _joined(parts, axis=1):
    return np.concatenate(list(np.asarray(parts)), axis)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
class TestBatch:
    """The statistics never depend on the batch, so splitting it changes nothing."""

    def test_pmap(self, implementation):
        data = inputs(BATCH)
        f = jax.pmap(function(BATCH, implementation), in_axes=(0, None, None))
        y = f(data.x[:, None], data.gamma, data.beta)
        check.values(BATCH, data, y[:, 0], implementation)

    def test_pmap_gradients(self, implementation):
        data = inputs(BATCH)
        f = function(BATCH, implementation)

        def pull(x, gamma, beta, dy):
            dx, dgamma, dbeta = jax.vjp(f, x, gamma, beta)[1](dy)
            return dx, *jax.lax.psum((dgamma, dbeta), "batch")

        pmapped = jax.pmap(pull, "batch", in_axes=(0, None, None, 0))
        dx, dgamma, dbeta = pmapped(
            data.x[:, None], data.gamma, data.beta, data.dy[:, None]
        )
        got = dx[:, 0], dgamma[0], dbeta[0]
        check.gradients(BATCH, data, got, implementation)

    @pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
    def test_shard_map(self, implementation, jit):
        data = inputs(BATCH)
        mesh = _mesh(("batch", DEVICES))
        split, whole = PartitionSpec("batch"), PartitionSpec()
        f = jax.shard_map(
            function(BATCH, implementation),
            mesh=mesh,
            in_specs=(split, whole, whole),
            out_specs=split,
        )
        f = jax.jit(f) if jit else f
        y, pullback = jax.vjp(f, *data.primals)
        check.values(BATCH, data, y, implementation)
        check.gradients(BATCH, data, pullback(data.dy), implementation)

    def test_jit_with_a_sharded_batch(self, implementation):
        data = inputs(BATCH)
        mesh = _mesh(("batch", DEVICES))
        sharding = NamedSharding(mesh, PartitionSpec("batch"))
        x = jax.device_put(data.x, sharding)
        y = jax.jit(function(BATCH, implementation))(x, data.gamma, data.beta)
        assert y.sharding.is_equivalent_to(sharding, y.ndim)
        check.values(BATCH, data, y, implementation)


def _specs(data):
    """PartitionSpecs that split axis 1 of what has it."""

    def spec(array):
        if array is None or array.ndim < 3:
            return PartitionSpec()
        return PartitionSpec(None, "space")

    return spec(data.x), PartitionSpec(), PartitionSpec(), spec(data.mask)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("case", SPATIAL_CASES, ids=[c.name for c in SPATIAL_CASES])
class TestAxisName:
    """Each device holds a part of every sample; the result is that of the whole.

    The masks differ between devices. An average of local means would be wrong.
    """

    def test_shard_map(self, case, implementation):
        data = inputs(case)
        f = jax.shard_map(
            function(case, implementation, axis_name="space"),
            mesh=_mesh(("space", DEVICES)),
            in_specs=_specs(data),
            out_specs=_specs(data)[0],
        )

        @jax.jit
        def run(x, gamma, beta, mask, dy):
            y, pullback = jax.vjp(lambda *a: f(*a, mask), x, gamma, beta)
            return y, pullback(dy)

        y, grads = run(*data.primals, data.mask, data.dy)
        check.values(case, data, y, implementation)
        check.gradients(case, data, grads, implementation)

    def test_pmap(self, case, implementation):
        data = inputs(case)
        f = function(case, implementation, axis_name="space")

        def run(x, gamma, beta, mask, dy):
            y, pullback = jax.vjp(lambda *a: f(*a, mask), x, gamma, beta)
            dx, *d_parameters = pullback(dy)
            return y, dx, *jax.lax.psum(d_parameters, "space")

        mask = None if data.mask is None else _parts(data.mask)
        y, dx, dgamma, dbeta = jax.pmap(run, "space", in_axes=(0, None, None, 0, 0))(
            _parts(data.x), data.gamma, data.beta, mask, _parts(data.dy)
        )
        check.values(case, data, _joined(y).astype(case.result_dtype), implementation)
        got = _joined(dx).astype(case.dtype), dgamma[0], dbeta[0]
        check.gradients(case, data, got, implementation)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
class TestUnevenMasks:
    """Masks that leave some devices with much, little or nothing."""

    X = np.random.default_rng(0).standard_normal((2, 16, 8)).astype(np.float32)

    def _run(self, implementation, mask, x=None):
        f = functools.partial(
            group_norm, groups=2, axis_name="space", implementation=implementation
        )
        x = self.X if x is None else x
        y = jax.pmap(lambda x, mask: f(x, mask=mask), "space")(_parts(x), _parts(mask))
        return _joined(y)

    def test_one_device_has_it_all(self, implementation):
        mask = np.zeros((2, 16, 1), bool)
        mask[:, 6:8] = True
        y = self._run(implementation, mask)
        expected = oracle.group_norm(self.X, None, None, 2, mask=mask).y
        np.testing.assert_allclose(y, expected, atol=3e-6)

    def test_another_device_for_every_sample(self, implementation):
        mask = np.zeros((2, 16, 1), bool)
        mask[0, :5] = True
        mask[1, 3:] = True
        y = self._run(implementation, mask)
        expected = oracle.group_norm(self.X, None, None, 2, mask=mask).y
        np.testing.assert_allclose(y, expected, atol=3e-6)

    def test_nothing_kept_anywhere(self, implementation):
        y = self._run(implementation, np.zeros((2, 16, 1), bool))
        np.testing.assert_array_equal(y, 0)

    def test_a_constant_gives_zero(self, implementation):
        mask = np.random.default_rng(0).random((2, 16, 1)) < 0.3
        x = np.full_like(self.X, 123.456)
        if implementation in LITERAL:
            pytest.skip("the literal equations round the mean")
        np.testing.assert_array_equal(self._run(implementation, mask, x), 0)

    def test_nan_where_masked(self, implementation):
        mask = np.random.default_rng(0).random((2, 16, 1)) < 0.5
        x = np.where(mask, self.X, np.nan).astype(np.float32)
        y = self._run(implementation, mask, x)
        expected = oracle.group_norm(x, None, None, 2, mask=mask).y
        np.testing.assert_allclose(y, expected, atol=3e-6)


@pytest.mark.parametrize("implementation", ACCURATE)
@pytest.mark.parametrize("mean", [0.0, 1e3, 1e5])
def test_accuracy_over_devices(implementation, mean):
    # Devices whose parts have means of their own, far apart: the merge must not lose
    # the digits that every device kept.
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 64, 16)) + mean
    x[:, 8:16] += 50
    x = x.astype(np.float32)
    f = functools.partial(
        group_norm, groups=2, axis_name="space", implementation=implementation
    )
    y = _joined(jax.pmap(f, "space")(_parts(x)))
    expected = oracle.group_norm(x, None, None, 2).y
    error = np.abs(y - expected).max() / np.abs(expected).max()
    assert error <= (1e-6 if mean == 0 else 5e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_axis_index_groups(implementation):
    # Two samples of four parts each lie on eight devices.
    x = np.random.default_rng(0).standard_normal((2, 16, 3, 8)).astype(np.float32)
    x[1] += 3
    mask = np.random.default_rng(1).random((2, 16, 3, 1)) < 0.6
    parts, masks = (np.concatenate(np.split(a, 4, 1)) for a in (x, mask))
    order = [0, 2, 4, 6, 1, 3, 5, 7]  # sample 0 on the even devices' places

    def run(x, mask):
        return group_norm(
            x[None],
            groups=2,
            mask=mask[None],
            axis_name="d",
            axis_index_groups=[[0, 1, 2, 3], [4, 5, 6, 7]],
            implementation=implementation,
        )[0]

    y = np.asarray(jax.pmap(run, "d")(parts[order], masks[order]))
    whole = np.stack([np.concatenate(y[:4]), np.concatenate(y[4:])])
    expected = oracle.group_norm(x, None, None, 2, mask=mask).y
    np.testing.assert_allclose(whole, expected, atol=3e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_axis_index_groups_gradient(implementation):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 2, 16, 8)).astype(np.float32)

    def pull(x, dy):
        f = functools.partial(
            group_norm,
            groups=2,
            axis_name="d",
            axis_index_groups=[[0, 1, 2, 3], [4, 5, 6, 7]],
            implementation=implementation,
        )
        return jax.vjp(f, x)[1](dy)[0]

    split = [np.stack(np.split(a.reshape(32, 8), 8))[:, None] for a in (x, dy)]
    dx = np.asarray(jax.pmap(pull, "d")(*split)).reshape(x.shape)
    expected = oracle.gradients(x, None, None, 2, dy).x
    np.testing.assert_allclose(dx, expected, atol=1e-5)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("names", [("h", "w"), ["h", "w"]], ids=["tuple", "list"])
def test_two_axis_names(names, implementation):
    case = Case("two_axes", (2, 8, 4, 8), 2, mask="full")
    data = inputs(case)
    spec = PartitionSpec(None, "h", "w")
    f = jax.shard_map(
        function(case, implementation, axis_name=names),
        mesh=_mesh(("h", 4), ("w", 2)),
        in_specs=(spec, PartitionSpec(), PartitionSpec(), spec),
        out_specs=spec,
    )
    y = jax.jit(f)(*data.primals, data.mask)
    check.values(case, data, y, implementation)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_batch_and_space_split_together(implementation):
    case = Case("batch_and_space", (4, 8, 2, 8), 2, mask="column")
    data = inputs(case)
    spec = PartitionSpec("batch", "space")
    f = jax.shard_map(
        function(case, implementation, axis_name="space"),
        mesh=_mesh(("batch", 2), ("space", 4)),
        in_specs=(spec, PartitionSpec(), PartitionSpec(), spec),
        out_specs=spec,
    )
    y, pullback = jax.vjp(lambda *a: f(*a, data.mask), *data.primals)
    check.values(case, data, y, implementation)
    check.gradients(case, data, pullback(data.dy), implementation)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_jvp_over_devices(implementation):
    data = inputs(SPATIAL)
    f = function(SPATIAL, implementation, axis_name="space")
    dy = jax.pmap(
        lambda x, dx: jax.jvp(
            f, (x, data.gamma, data.beta), (dx, data.d_gamma, data.d_beta)
        )[1],
        "space",
    )(_parts(data.x), _parts(data.dx))
    check.tangent(SPATIAL, data, _joined(dy), implementation)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_statistics_over_devices(implementation):
    data = inputs(SPATIAL)
    mask = np.random.default_rng(0).random(SPATIAL.shape) < 0.5

    def stats(x, mask):
        return group_stats(
            x, 2, mask=mask, axis_name="space", implementation=implementation
        )

    mean, var = jax.pmap(stats, "space")(_parts(data.x), _parts(mask))
    expected = oracle.group_norm(data.x, None, None, 2, mask=mask)
    for got, want in ((mean, expected.mean), (var, expected.var)):
        for device in range(DEVICES):
            np.testing.assert_allclose(got[device], want, atol=1e-6)


@pytest.mark.parametrize("checked", [True, False], ids=["checked", "unchecked"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_gradient_of_the_statistics_over_devices(implementation, checked):
    # Where shard_map tracks what devices share, the transpose of an all-reduce is none.
    x = inputs(SPATIAL).x
    weights = np.random.default_rng(0).standard_normal((2, 2, 2)).astype(np.float32)

    def loss(x, axis_name=None):
        stats = group_stats(x, 2, axis_name=axis_name, implementation=implementation)
        return sum(jnp.sum(s * w) for s, w in zip(stats, weights, strict=True))

    split = jax.shard_map(
        functools.partial(loss, axis_name="space"),
        mesh=_mesh(("space", DEVICES)),
        in_specs=PartitionSpec(None, "space"),
        out_specs=PartitionSpec(),
        check_vma=checked,
    )
    np.testing.assert_allclose(
        jax.jit(jax.grad(split))(x), jax.jit(jax.grad(loss))(x), atol=1e-7
    )


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_training_step_on_split_samples(implementation):
    # grad inside shard_map: every device sees the gradient of the summed loss.
    data = inputs(SPATIAL)
    f = function(SPATIAL, implementation, axis_name="space")
    split, whole = PartitionSpec(None, "space"), PartitionSpec()

    def loss(x, gamma, beta, dy):
        return jax.lax.psum(jnp.sum(f(x, gamma, beta) * dy), "space")

    step = jax.shard_map(
        jax.grad(loss, argnums=(0, 1, 2)),
        mesh=_mesh(("space", DEVICES)),
        in_specs=(split, whole, whole, split),
        out_specs=(split, whole, whole),
    )
    grads = jax.jit(step)(*data.primals, data.dy)
    check.gradients(SPATIAL, data, grads, implementation)
