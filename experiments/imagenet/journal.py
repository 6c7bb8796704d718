"""What a run reports: JSON lines and TensorBoard's files, by the first host alone."""

import json
import math
import pathlib
from typing import Any

import tensorboardX

from experiments.imagenet import hosts

FILE = "metrics.jsonl"


class Journal:
    """Writes ``metrics.jsonl`` and ``tensorboard/`` in the folder of a run.

    Args:
      folder: of the run.
      step: where the run starts; what was written of later steps is taken back.
    """

    def __init__(self, folder: pathlib.Path, step: int):
        self._file, self._board = None, None
        if not hosts.first():
            return
        path = folder / FILE
        kept = [entry for entry in read(folder) if entry["step"] <= step]
        text = "".join(json.dumps(entry) + "\n" for entry in kept)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(text)
        unfinished.replace(path)
        self._file = path.open("a")
        self._board = tensorboardX.SummaryWriter(
            str(folder / "tensorboard"), purge_step=step + 1, write_to_disk=True
        )

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """One line, and a point in each chart named ``kind/value``."""
        if self._file is None or self._board is None:
            return
        # JSON has no word for what is not finite; null is what readers expect.
        told = {
            name: None if isinstance(v, float) and not math.isfinite(v) else v
            for name, v in values.items()
        }
        self._file.write(json.dumps({"kind": kind, "step": step, **told}) + "\n")
        self._file.flush()
        for name, value in values.items():
            if isinstance(value, int | float):
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        if self._file is not None and self._board is not None:
            self._file.close()
            self._board.close()


def read(folder: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of a run; a last line that was cut short is left out."""
    path = folder / FILE
    if not path.exists():
        return []
    entries = []
    for line in path.read_text().splitlines():
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return entries
