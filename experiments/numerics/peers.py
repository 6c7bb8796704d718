"""The group norms that are compared: the benchmark's, and torch on given arrays."""

import json
import pathlib
import subprocess
import tempfile
from typing import Any

import numpy as np

from experiments.benchmark import contenders, layers
from experiments.benchmark.torch_contenders import VARIANTS
from experiments.numerics.cases import Case

EPSILON = contenders.EPSILON

NAMES = (
    "flax_gn xla",
    "flax_gn reference",
    "flax.linen",
    "flax.linen two-pass",
    "flax.nnx",
    "haiku",
    "equinox",
    "keras",
)
TORCH = {name: layout for name, (layout, compiled) in VARIANTS.items() if not compiled}

# Whose gradients are measured too.
WITH_GRADIENTS = NAMES[:4]


def layer(case: Case) -> layers.Layer:
    """The case as the contenders take it."""
    return layers.Layer("", "", "", case.shape, case.groups, "none", source="")


class Torch:
    """A worker process with torch.

    Args:
      python: an interpreter that can import torch.

    Raises:
      ValueError: the interpreter cannot import torch.
    """

    def __init__(self, python: str):
        worker = pathlib.Path(__file__).with_name("torch_worker.py")
        refusal = ValueError(
            f"--torch-python must name a Python that can import torch; {python} "
            "cannot. Install torch there or leave the option out."
        )
        try:
            self._process = subprocess.Popen(
                [python, str(worker)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        except OSError:
            raise refusal from None
        try:
            self.version: str = self._answer()["version"]
        except json.JSONDecodeError:
            self._process.communicate()
            raise refusal from None
        self._folder = tempfile.TemporaryDirectory()

    def normalise(self, name: str, case: Case, x: np.ndarray) -> np.ndarray:
        """Group norm of x by one of the names in `TORCH`, as float32.

        Raises:
          RuntimeError: torch refuses.
        """
        path = pathlib.Path(self._folder.name, "values.npy")
        np.save(path, x.astype(np.float32))
        request = {
            "path": str(path),
            "dtype": case.dtype,
            "layout": TORCH[name],
            "groups": case.groups,
            "eps": EPSILON,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return np.load(path)

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()
        self._folder.cleanup()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())
