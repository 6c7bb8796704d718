"""The video network: what looks along time, and what a norm looks over."""

from functools import partial
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_gn.linen import BatchNorm, GroupNorm
from flax_gn.models import I3D

GN = partial(GroupNorm, num_groups=None, group_size=4)
BN = partial(BatchNorm, use_running_average=False)
KEY = jax.random.key(0, impl="rbg")
SHAPE = (2, 4, 8, 8, 1)
SMALL = {"width": 4, "classes": 3, "stem": (3, 3)}


def _jitted(model, x):
    variables = jax.jit(model.init)(KEY, x)
    variables["params"]["head"]["kernel"] *= 100
    return variables, jax.jit(model.apply)


def _flat(model) -> dict[str, Any]:
    variables = jax.eval_shape(model.init, KEY, jnp.zeros(SHAPE))
    flat = flax.traverse_util.flatten_dict(variables["params"], sep="/")
    return {name: leaf.shape for name, leaf in flat.items()}


def test_batch_norm_and_group_norm_have_the_same_parameters():
    assert _flat(I3D(norm=GN, **SMALL)) == _flat(I3D(norm=BN, **SMALL))


def test_one_convolution_of_a_block_is_inflated():
    shapes = _flat(I3D(norm=GN, **SMALL))
    assert shapes["stem_conv/kernel"] == (3, 3, 3, 1, 4)
    assert shapes["stage2_block1_conv1/kernel"] == (3, 3, 3, 4, 8)
    assert shapes["stage2_block1_conv2/kernel"] == (1, 3, 3, 8, 8)
    assert shapes["stage2_block1_shortcut/kernel"] == (1, 1, 1, 4, 8)
    assert "stage1_block1_shortcut/kernel" not in shapes


def test_blocks_start_as_their_shortcuts():
    x = jax.random.normal(KEY, SHAPE)
    deep = I3D(norm=GN, **SMALL, stages=(3,))
    variables, apply = _jitted(deep, x)
    shallow = jax.jit(deep.clone(stages=()).apply)(variables, x)
    np.testing.assert_allclose(apply(variables, x), shallow, atol=1e-6)


def test_the_order_of_frames_counts_unless_no_window_spans_frames():
    x = jax.random.normal(KEY, SHAPE)
    for frames, counts in ((3, True), (1, False)):
        model = I3D(norm=GN, **SMALL | {"stem": (frames, 3), "stages": ()})
        variables, apply = _jitted(model, x)
        there, back = apply(variables, x), apply(variables, x[:, ::-1])
        assert np.allclose(there, back, atol=1e-5) != counts


def test_group_norm_never_looks_at_the_other_clips():
    x = jax.random.normal(KEY, SHAPE)
    variables, apply = _jitted(I3D(norm=GN, **SMALL), x)
    alone = apply(variables, x[:1])
    np.testing.assert_allclose(apply(variables, x)[:1], alone, atol=1e-4)


def test_a_norm_takes_its_statistics_over_time_too():
    """Frames of other contrast change what the norm makes of a frame."""
    seen = []

    def norm(**arguments):
        layer = GN(**arguments)

        def both(x):
            seen.append((x, layer(x)))
            return seen[-1][1]

        return both

    model = I3D(norm=norm, **SMALL | {"stages": ()})
    x = jax.random.normal(KEY, SHAPE)
    model.init(KEY, x)
    [(before, after)] = seen
    want = (before - before.mean((1, 2, 3, 4), keepdims=True)) / before.std(
        (1, 2, 3, 4), keepdims=True
    )
    np.testing.assert_allclose(after, want, atol=1e-4)


@pytest.mark.parametrize("shape", [(4, 8, 8, 1), (1, 1, 4, 8, 8, 1)])
def test_what_is_no_batch_of_clips_is_refused(shape):
    with pytest.raises(ValueError, match=r"clips of shape \(N, T, H, W, C\); got x of"):
        jax.eval_shape(I3D(norm=GN, **SMALL).init, KEY, jnp.zeros(shape))
