"""Which axes share statistics: flax.linen's meaning, on every layout."""

import functools
import itertools

import jax
import numpy as np
import pytest
from flax import linen as nn

from flax_gn import group_norm, group_stats
from tests.cases import IMPLEMENTATIONS

pytestmark = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)

RNG = np.random.default_rng(0)
VIDEO = RNG.standard_normal((2, 3, 4, 5, 8)).astype(np.float32)
GAMMA, BETA = RNG.standard_normal((2, 8)).astype(np.float32)


def _norm(implementation, **options):
    return functools.partial(
        group_norm, groups=2, implementation=implementation, **options
    )


@pytest.mark.parametrize(
    "axes",
    [
        tuple(sorted({*some, 3}))
        for size in range(4)
        for some in itertools.combinations(range(3), size)
    ],
    ids=str,
)
def test_every_subset_means_what_it_means_in_flax(axes, implementation):
    x = VIDEO[0]
    flax = nn.GroupNorm(2, epsilon=1e-5, reduction_axes=axes, use_fast_variance=False)
    variables = {"params": {"scale": GAMMA, "bias": BETA}}
    norm = _norm(implementation, reduction_axes=axes)

    @jax.jit
    def run(x, dy):
        # Flax promotes ranks on its way.
        with jax.numpy_rank_promotion("allow"):
            return [
                (y, pullback(dy)[0])
                for y, pullback in (
                    jax.vjp(lambda x: norm(x, GAMMA, BETA), x),
                    jax.vjp(lambda x: flax.apply(variables, x), x),
                )
            ]

    ours, theirs = run(x, VIDEO[1])
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize("axes", [(0, 1, 2), (-3, -2, -1), [2, 0, 1], range(3)])
def test_one_unbatched_image_is_a_batch_of_one(axes, implementation):
    image = VIDEO[0, 0]
    alone = _norm(implementation, reduction_axes=axes)(image, GAMMA, BETA)
    batched = _norm(implementation)(image[None], GAMMA, BETA)
    np.testing.assert_allclose(alone, batched[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rank", [1, 2])
def test_gamma_of_an_unbatched_array_is_per_channel(rank, implementation):
    # There is one set of statistics, so a row per sample is the same as one.
    x = VIDEO[0, 0] if rank == 2 else VIDEO[0, 0, 0]
    norm = _norm(implementation, reduction_axes=range(x.ndim))
    np.testing.assert_array_equal(norm(x, GAMMA[None]), norm(x, GAMMA))
    with pytest.raises(ValueError, match=r"gamma must have shape \(8,\)"):
        norm(x, np.stack([GAMMA, GAMMA]))


@pytest.mark.parametrize("parameters", ["per channel", "per sample and time"])
def test_time_kept_apart_is_a_larger_batch(parameters, implementation):
    n, t, *space, c = VIDEO.shape
    gamma, beta = GAMMA, BETA
    if parameters != "per channel":
        gamma, beta = RNG.standard_normal((2, n, t, c)).astype(np.float32)
    apart = _norm(implementation, reduction_axes=(2, 3, 4))(VIDEO, gamma, beta)
    folded = _norm(implementation)(
        VIDEO.reshape(n * t, *space, c),
        *(p if p.ndim == 1 else p.reshape(n * t, c) for p in (gamma, beta)),
    )
    np.testing.assert_allclose(
        apart, np.reshape(folded, VIDEO.shape), rtol=1e-5, atol=1e-5
    )


def test_a_gamma_per_sample_does_not_fit_time_kept_apart(implementation):
    norm = _norm(implementation, reduction_axes=(2, 3, 4))
    with pytest.raises(ValueError, match=r"gamma must have shape .*\(2, 3, 8\)"):
        norm(VIDEO, np.ones((2, 8), np.float32))


def test_axes_have_no_order_and_no_sign(implementation):
    # One canonical call, hence one compilation and the same bits.
    results = [
        _norm(implementation, reduction_axes=axes)(VIDEO, GAMMA, BETA)
        for axes in ((1, 2, 4), (4, 2, 1), (-1, -3, -4), [2, -1, np.int64(1)])
    ]
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


def test_all_but_the_first_is_the_default(implementation):
    np.testing.assert_array_equal(
        _norm(implementation, reduction_axes=(1, 2, 3, 4))(VIDEO),
        _norm(implementation)(VIDEO),
    )


@pytest.mark.parametrize(
    ("axes", "kept"),
    [(None, (2,)), (-1, (2, 3, 4, 5)), ((1, 3, 4), (2, 4)), (range(5), ())],
)
def test_statistics_have_the_kept_axes(axes, kept, implementation):
    mean, var = group_stats(
        VIDEO, 2, reduction_axes=axes, implementation=implementation
    )
    assert mean.shape == var.shape == (*kept, 2)
    axes = (1, 2, 3, 4) if axes is None else (axes,) if axes == -1 else tuple(axes)
    apart = VIDEO.astype(np.float64).reshape(*VIDEO.shape[:-1], 2, 4)
    over = (*(axis for axis in axes if axis not in (4, -1)), 5)
    np.testing.assert_allclose(mean, apart.mean(over), atol=1e-6)
    np.testing.assert_allclose(var, apart.var(over), rtol=1e-6, atol=1e-6)
