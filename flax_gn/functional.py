"""Group normalisation, and its ends layer and instance norm, as pure functions."""

from collections.abc import Hashable, Sequence
from typing import TypedDict, Unpack

import jax
from jax.typing import ArrayLike, DTypeLike

from flax_gn import _dispatch, _problem
from flax_gn._words import spoken_by


class Options(TypedDict, total=False):
    """The keyword arguments of `group_norm` that every norm here takes."""

    eps: float
    mask: ArrayLike | None
    reduction_axes: int | Sequence[int] | None
    activation: str | _problem.Activation | None
    axis_name: Hashable | None
    axis_index_groups: Sequence[Sequence[int]] | None
    dtype: DTypeLike | None
    implementation: str | None


@spoken_by("group_norm")
def group_norm(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    groups: int | None = None,
    *,
    group_size: int | None = None,
    eps: float = 1e-5,
    mask: ArrayLike | None = None,
    reduction_axes: int | Sequence[int] | None = None,
    activation: str | _problem.Activation | None = None,
    axis_name: Hashable | None = None,
    axis_index_groups: Sequence[Sequence[int]] | None = None,
    dtype: DTypeLike | None = None,
    implementation: str | None = None,
) -> jax.Array:
    """Group normalisation of a channels-last array.

    With S(n, g) all positions of sample n in the C/G channels of group g, and m their
    number::

        mean[n, g] = sum over S(n, g) of x / m
        var[n, g]  = sum over S(n, g) of (x - mean)^2 / m
        y          = activation(gamma * (x - mean) / sqrt(var + eps) + beta)

    The statistics are float32 or wider and accurate at any mean. The backward pass
    keeps x, gamma, beta and the statistics, and rebuilds the rest. Every JAX
    transformation works: jit, reverse and forward mode and their compositions, vmap,
    checkpoint, scan, pmap, shard_map, export; but not jax.experimental.jet, which
    fails through `jax.custom_jvp`, at jax.nn.relu as well.

    Args:
      x: shape (N, *spatial, C), any number of spatial axes, or one vector of channels,
        (C,); float32, bfloat16, float16 or float64. Deviations from the mean are
        squared in float32 (float64 where x or the result is float64), so they may reach
        1e18; beyond, scale x by a power of two first.
      gamma: scale, shape (C,), or (N, C) for a scale of its own per sample (adaptive
        group norm), or either with axes of size 1 between, (1, 1, 1, C); None for 1.
        Any floating dtype.
      beta: shift, as gamma; None for 0.
      groups: G, the number of groups, a divisor of C. 1 is the paper's layer norm, C
        its instance norm.
      group_size: channels per group, C/G, instead of ``groups``.
      eps: added to the variance; the paper's 1e-5 by default. With 0, a group of equal
        values gives NaN.
      mask: where a value counts, boolean or 0 where not. It broadcasts to x axis by
        axis, with or without the channel axis, (N, L), (N, L, 1) or (N, L, C) for x of
        shape (N, L, C), or from the last axis on, as in NumPy, (C,) or (L, C); where
        both fit and differ it is refused. Statistics are taken over the kept values
        alone. Masked positions receive activation(beta) and no gradient, whatever
        stands there, NaN included; so does a group with nothing kept.
      reduction_axes: the axes that share statistics; it must include the channel axis,
        the last. None means all but the first. ``(-3, -2, -1)`` takes one unbatched
        image of shape (H, W, C); ``(2, 3, 4)`` keeps time apart in (N, T, H, W, C),
        and gamma per sample then has shape (N, T, C).
      activation: None, "relu", "silu", "gelu" (the tanh form, as `jax.nn.gelu`),
        "mish" (from one exponential, where `jax.nn.mish` takes more), or an elementwise
        function of one array, such as `functools.partial(jax.nn.leaky_relu,
        negative_slope=0.2)`. The backward pass rebuilds its input from x. A module, or
        a function that holds an array, is refused: apply it to the result, or give it
        to a layer.
      axis_name: one or several names of mapped axes (pmap, shard_map) whose devices
        each hold a part of every sample: statistics are shared in one all-reduce,
        weighted by counts. Not for axes that split the batch.
      axis_index_groups: which devices along ``axis_name`` share statistics, as in
        `jax.lax.psum`.
      dtype: dtype of the result; None for x's.
      implementation: "xla", the one for every platform; "pallas_tpu" and
        "pallas_gpu", kernels that read x once where a sample's groups fit on chip;
        "reference", the equations literally, neither lean nor accurate at large means;
        None picks "xla".

    Returns:
      An array of x's shape and of ``dtype``.

    Raises:
      TypeError: x, gamma or beta is no floating-point array, mask is no array of truth
        values, or groups, group_size or eps is not a number known at trace time.
      ValueError: groups does not divide C, a shape does not fit or has two meanings,
        eps is negative, or a name is unknown.
      NotImplementedError: the implementation asked for by name cannot do this; the
        message says why. None never raises it.

    >>> import jax, jax.numpy as jnp
    >>> from flax_gn import group_norm
    >>> x = jax.random.normal(jax.random.key(0), (2, 8, 8, 16)) + 1000
    >>> y = jax.jit(group_norm, static_argnums=3)(x, jnp.ones(16), jnp.zeros(16), 4)
    >>> y.shape, y.dtype
    ((2, 8, 8, 16), dtype('float32'))
    >>> bool(abs(y.mean()) < 1e-6)
    True

    Source: Wu & He, "Group Normalization", ECCV 2018, arXiv:1803.08494, equations 1, 2,
    6 and 7.
    """
    problem, operands = _problem.canonicalise(
        x,
        gamma,
        beta,
        groups,
        group_size=group_size,
        eps=eps,
        mask=mask,
        reduction_axes=reduction_axes,
        activation=activation,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        dtype=dtype,
    )
    return _dispatch.group_norm(implementation, problem, operands)


@spoken_by("group_stats")
def group_stats(
    x: ArrayLike,
    groups: int | None = None,
    *,
    group_size: int | None = None,
    mask: ArrayLike | None = None,
    reduction_axes: int | Sequence[int] | None = None,
    axis_name: Hashable | None = None,
    axis_index_groups: Sequence[Sequence[int]] | None = None,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance per sample and group, as `group_norm` computes them.

    Args:
      x: as in `group_norm`.
      groups: as in `group_norm`.
      group_size: as in `group_norm`.
      mask: as in `group_norm`. A group with nothing kept has mean 0 and variance 0.
      reduction_axes: as in `group_norm`.
      axis_name: as in `group_norm`.
      axis_index_groups: as in `group_norm`.
      implementation: as in `group_norm`.

    Returns:
      mean and var, each of shape (N, G), or (*kept axes, G) with ``reduction_axes``;
      float32, or float64 for float64 x. The variance keeps its digits at any mean;
      the mean is rounded to its dtype, and x - mean is then less accurate than
      `group_norm`, which never forms it so.

    Raises:
      TypeError: as `group_norm`.
      ValueError: as `group_norm`.

    >>> import jax.numpy as jnp
    >>> from flax_gn import group_stats
    >>> mean, var = group_stats(jnp.array([[1.0, 3.0, 10.0, 10.0]]), 2)
    >>> mean, var
    (Array([[ 2., 10.]], dtype=float32), Array([[1., 0.]], dtype=float32))

    Source: Wu & He, "Group Normalization", ECCV 2018, arXiv:1803.08494, equations 2
    and 7.
    """
    problem, operands = _problem.canonicalise(
        x,
        None,
        None,
        groups,
        group_size=group_size,
        mask=mask,
        reduction_axes=reduction_axes,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
    )
    return _dispatch.resolve(implementation).group_stats(problem, operands)


@spoken_by("layer_norm")
def layer_norm(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    **options: Unpack[Options],
) -> jax.Array:
    """The paper's layer norm: `group_norm` with one group.

    Statistics per sample over all spatial positions and all channels. The layer norm
    of transformers leaves the spatial axes out: for x of shape (N, L, C) that is
    ``layer_norm(x, gamma, beta, reduction_axes=-1)``.

    Args:
      x: as in `group_norm`.
      gamma: as in `group_norm`.
      beta: as in `group_norm`.
      **options: eps, mask, reduction_axes, activation, axis_name, axis_index_groups,
        dtype and implementation of `group_norm`.

    Returns:
      As `group_norm`.

    Raises:
      TypeError: as `group_norm`.
      ValueError: as `group_norm`.

    >>> import jax.numpy as jnp
    >>> from flax_gn import layer_norm
    >>> layer_norm(jnp.array([[1.0, -1.0]]), eps=1e-12)
    Array([[ 1., -1.]], dtype=float32)

    Source: Wu & He, "Group Normalization", ECCV 2018, arXiv:1803.08494, equation 4.
    """
    return group_norm(x, gamma, beta, 1, **options)


@spoken_by("instance_norm")
def instance_norm(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    **options: Unpack[Options],
) -> jax.Array:
    """The paper's instance norm: `group_norm` with one channel per group.

    Args:
      x: as in `group_norm`; without a spatial axis every group is a single value and
        the result is activation(beta).
      gamma: as in `group_norm`.
      beta: as in `group_norm`.
      **options: eps, mask, reduction_axes, activation, axis_name, axis_index_groups,
        dtype and implementation of `group_norm`.

    Returns:
      As `group_norm`.

    Raises:
      TypeError: as `group_norm`.
      ValueError: as `group_norm`.

    >>> import jax.numpy as jnp
    >>> from flax_gn import instance_norm
    >>> instance_norm(jnp.array([[[1.0, 5.0], [-1.0, 5.0]]]), eps=1e-12)
    Array([[[ 1.,  0.],
            [-1.,  0.]]], dtype=float32)

    Source: Wu & He, "Group Normalization", ECCV 2018, arXiv:1803.08494, equation 5.
    """
    return group_norm(x, gamma, beta, group_size=1, **options)
