"""What a checkpoint holds, whatever the loop does while it is written."""

import jax.numpy as jnp

from experiments.imagenet.checkpoints import Checkpoints
from experiments.imagenet.program import State


def test_progress_is_that_of_the_call(tmp_path):
    """The loop adds to its sums while the checkpoint is written."""
    state = State(
        step=jnp.int32(8),
        params={"scale": jnp.arange(4.0)},
        stats={},
        optimizer={"trace": {"scale": jnp.zeros(4)}},
        alive=jnp.array(True),
    )
    checkpoints = Checkpoints(tmp_path)
    progress = {"epochs": 1, "sums": {"examples": 64.0}}
    checkpoints.save(8, state, progress)
    progress["sums"]["examples"] += 16
    progress["epochs"] += 1
    checkpoints.wait()
    found = checkpoints.restore(state)
    checkpoints.close()
    assert found is not None
    assert found.progress == {"epochs": 1, "sums": {"examples": 64.0}}
