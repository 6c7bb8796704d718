"""Weights from the first site, trained once for each norm and seed."""

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import serialization

from experiments import training
from experiments.training import Config
from experiments.training.loop import read_epochs
from experiments.training.program import State, Task

Tree = Any
_FILE = "weights.msgpack"


class Pretraining:
    """Trains on the first site when a run first asks for its weights.

    Args:
      folder: gets a folder for each config.
      task: what a norm trains, by the norm's name.
      config: by norm and seed.
      resume: whether to take what an earlier session left in the folder.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        task: Callable[[str], Task],
        config: Callable[[str, int], Config],
        *,
        resume: bool,
    ):
        self._folder, self._task, self._config = folder, task, config
        self._resume = resume
        self._programs: dict[str, training.Program] = {}
        self._found: dict[tuple[str, int], tuple[Tree, Tree]] = {}

    def weights(self, norm: str, seed: int) -> tuple[Tree, Tree]:
        """Parameters and running averages."""
        key = norm, seed
        if key not in self._found:
            self._train(norm, seed)
            content = (self._of(norm, seed) / _FILE).read_bytes()
            found = serialization.msgpack_restore(content)
            self._found[key] = found["params"], found["stats"]
        return self._found[key]

    def epochs(self, norm: str, seed: int) -> list[dict[str, Any]]:
        """The records of the training; none if nobody asked for its weights."""
        return read_epochs(self._of(norm, seed))

    def _of(self, norm: str, seed: int) -> pathlib.Path:
        return self._folder / self._config(norm, seed).name

    def _train(self, norm: str, seed: int) -> None:
        config = self._config(norm, seed)
        if norm not in self._programs:
            self._programs[norm] = training.Program(self._task(norm), config)
        folder = self._of(norm, seed)

        def at_end(state: State) -> None:
            params, stats = jax.tree.map(np.asarray, (state.params, state.stats))
            content = serialization.msgpack_serialize(
                {"params": params, "stats": stats}
            )
            (folder / _FILE).write_bytes(content)

        training.train(
            config, self._programs[norm], folder, resume=self._resume, at_end=at_end
        )
