"""torch's group norm, interleaved with the others from a process of its own."""

import collections
import json
import pathlib
import subprocess
from typing import Any

from experiments.benchmark import contenders, layers

# Name in records -> memory layout, and whether torch.compile is used.
VARIANTS = {
    "torch channels-last": ("channels last", False),
    "torch contiguous": ("contiguous", False),
    "torch.compile channels-last": ("channels last", True),
    "torch.compile contiguous": ("contiguous", True),
}


class Torch:
    """A worker process with torch.

    Args:
      python: an interpreter that can import torch.
      threads: threads torch may use; jax uses one per core.

    Raises:
      ValueError: the interpreter cannot import torch.
    """

    def __init__(self, python: str, threads: int):
        worker = pathlib.Path(__file__).with_name("torch_worker.py")
        self._process = subprocess.Popen(
            [python, str(worker), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._seconds = collections.defaultdict[str, list[float]](list)
        try:
            self.version: str = self._ask(ask="version")["version"]
        except (json.JSONDecodeError, BrokenPipeError):
            raise ValueError(
                f"--torch-python must name a Python that can import torch; {python} "
                "cannot. Install torch there or leave the option out."
            ) from None

    def prepare(
        self, name: str, layer: layers.Layer, dtype: str, mode: str
    ) -> dict[str, Any]:
        """Compiles and runs once: {"seconds": ...}, or {"error": ...}."""
        layout, compiled = VARIANTS[name]
        return self._ask(
            ask="prepare",
            name=name,
            layout=layout,
            compile=compiled,
            shape=layer.shape,
            groups=layer.groups,
            activation=layer.activation_name,
            dtype=dtype,
            mode=mode,
            epsilon=contenders.EPSILON,
        )

    def run(self, name: str) -> float:
        """Runs a prepared variant once and returns the seconds.

        On a GPU the worker runs it several times at once, for those to come.

        Raises:
          RuntimeError: it failed.
        """
        if not self._seconds[name]:
            answer = self._ask(ask="run", name=name)
            if "error" in answer:
                raise RuntimeError(answer["error"])
            self._seconds[name] += answer["seconds"]
        return self._seconds[name].pop()

    def forget(self) -> None:
        """Frees what was prepared."""
        self._ask(ask="forget")
        self._seconds.clear()

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())
