"""Classification that starts from a trained batch-norm network."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import serialization

from experiments.training import Classification
from experiments.training.norms import EPSILON, GROUP_SIZE
from experiments.training.program import State
from flax_gn import convert
from flax_gn.linen import WSConv

FILE = "variables.msgpack"
# What the network takes beside its norm, by the config's name for the network.
CONVOLUTIONS: dict[str, dict[str, Any]] = {"plain": {}, "ws": {"conv": WSConv}}


def save(folder: pathlib.Path, state: State) -> None:
    """Writes parameters and running averages into a run's folder."""
    variables = {"params": state.params, "batch_stats": state.stats}
    variables = jax.tree.map(np.asarray, variables)
    (folder / FILE).write_bytes(serialization.msgpack_serialize(variables))


def groups(channels: int) -> int:
    """As many as the experiments' group norm has."""
    return channels // GROUP_SIZE


@dataclasses.dataclass(frozen=True, eq=False)
class Finetuning(Classification):
    """Trains on what `save` wrote.

    Attributes:
      folder: of the run that was trained with a seed.
    """

    folder: Callable[[int], pathlib.Path] = dataclasses.field(kw_only=True)

    def init(self, seed: int) -> tuple[Any, Any]:
        """The trained network's, turned into group norm's where that is trained."""
        content = (self.folder(seed) / FILE).read_bytes()
        variables: Any = serialization.msgpack_restore(content)
        if self.norm == "gn":
            variables, _ = convert.linen_variables(
                variables,
                groups=groups,
                epsilon=EPSILON,
                fold=True,
                rename=lambda name: name,
            )
        return variables["params"], variables.get("batch_stats", {})
