"""What a run has left in its folder."""

import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments.imagenet import journal


def files(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def parameters(out, step=10):
    """Those of a run's checkpoint, and the rest of its state, by name."""
    folder = out / "checkpoints" / str(step) / "state"
    with ocp.StandardCheckpointer() as checkpointer:
        tree = checkpointer.metadata(folder).item_metadata.tree
        like = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), tree)
        state = checkpointer.restore(folder, like)
    leaves = jax.tree.leaves_with_path(state)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def lines(out):
    """The journal, but for how fast it went."""
    return [
        {k: v for k, v in entry.items() if k != "images_per_second"}
        for entry in journal.read(out)
    ]
