"""All cases of the benchmark, one after the other, or compiled by several processes.

Compiling takes a hundred times as long as running on an accelerator. There several
processes compile, and whichever has a case ready has the device to itself for as long
as it measures.
"""

import contextlib
import dataclasses
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

from experiments.benchmark import contenders, layers, measure
from experiments.benchmark.torch_contenders import VARIANTS, Torch

# Processes that share an accelerator take what they need of its memory and give it
# back; each would take most of it for itself otherwise.
_SHARED_MEMORY = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "XLA_PYTHON_CLIENT_ALLOCATOR": "platform",
}


@dataclasses.dataclass(frozen=True)
class Case:
    """What is measured side by side: a layer, with its activation or without, ..."""

    layer: layers.Layer
    dtype: str
    mode: str

    @property
    def title(self) -> str:
        """In words."""
        layer = self.layer
        return f"{layer.id} {self.dtype} {self.mode} {layer.activation_name}"


def share_memory() -> None:
    """Makes room for other processes on the device, before jax begins to use it."""
    os.environ.update(_SHARED_MEMORY)


class Worker:
    """Measures cases in this process.

    Args:
      names: of the contenders.
      seconds: to spend on the rounds of a case.
      torch_python: a Python that can import torch, for its contenders too.
    """

    def __init__(self, names: Sequence[str], seconds: float, torch_python: str | None):
        self._chosen = contenders.named(names)
        self._seconds = seconds
        self._torch = Torch(torch_python, os.cpu_count() or 1) if torch_python else None

    @property
    def torch_version(self) -> str | None:
        """Of the torch that is compared with, if one is."""
        return self._torch.version if self._torch else None

    def measure(
        self, case: Case, alone: contextlib.AbstractContextManager[Any] | None = None
    ) -> list[measure.Result]:
        """See `measure.case`."""
        return measure.case(
            case.layer,
            case.dtype,
            case.mode,
            self._chosen,
            seconds=self._seconds,
            torch=self._torch,
            torch_names=list(VARIANTS) if self._torch else [],
            alone=alone,
        )

    def close(self) -> None:
        """Ends torch's process."""
        if self._torch is not None:
            self._torch.close()


def in_processes(
    number: int, cases: Sequence[Case], *of_worker: Any
) -> Iterator[tuple[Case, list[measure.Result]]]:
    """Measures cases in so many processes, as they come.

    On a device `share_memory` comes before.

    Args:
      number: of processes.
      cases: to measure.
      *of_worker: what `Worker` takes.
    """
    # A process that has begun to use a GPU cannot be forked.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        number, context, _begin, (context.Lock(), of_worker)
    ) as pool:
        waiting = {pool.submit(_measure, case): case for case in cases}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


_worker: Worker
_alone: Any


def _begin(lock, of_worker):
    global _worker, _alone
    _worker, _alone = Worker(*of_worker), lock


def _measure(case):
    return _worker.measure(case, _alone)
