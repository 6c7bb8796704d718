"""Checkpoints: written in the background, whole or not at all, the best and the last.

They hold the state of the training step and, as JSON, what the loop knows beside it.
The folder has to be one that all hosts share.
"""

import copy
import itertools
import json
import logging
import pathlib
from typing import Any, NamedTuple

import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from experiments.imagenet import hosts
from experiments.imagenet.program import State

_log = logging.getLogger(__name__)
KEPT = 2  # of the last ones, so that there is one before one that is damaged
_METRIC = "error"


class Found(NamedTuple):
    """A checkpoint that was read."""

    step: int
    state: State
    progress: dict[str, Any]


class SaveError(Exception):
    """A checkpoint could not be written."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
      folder: of the run.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = folder.absolute() / "checkpoints"
        policy = preservation_policy
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policy.AnyPreservationPolicy(
                    [
                        policy.LatestN(KEPT),
                        policy.BestN(
                            get_metric_fn=lambda metrics: metrics[_METRIC],
                            reverse=True,  # the least error last
                            n=1,
                            keep_checkpoints_without_metrics=False,
                        ),
                    ]
                ),
                cleanup_tmp_directories=True,
            ),
        )

    def save(
        self,
        step: int,
        state: State,
        progress: dict[str, Any],
        error: float | None = None,
    ) -> None:
        """Copies a state and goes on; it is written in the background.

        Args:
          step: steps taken.
          state: on the devices of all hosts.
          progress: what JSON can hold; the first host's is kept.
          error: in validation, to tell the best; None where it was not measured.

        Raises:
          SaveError: this one or the one before it could not be written.
        """
        if step in self._manager.all_steps():
            return
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state._asdict()),
                    # Orbax writes it later, as it stands then.
                    progress=ocp.args.JsonSave(copy.deepcopy(progress)),
                ),
                metrics=None if error is None else {_METRIC: error},
                force=True,
            )
        except Exception as why:
            raise self._failure(why) from why

    def wait(self) -> None:
        """Until everything is written.

        Raises:
          SaveError: it could not be.
        """
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except Exception as why:
            raise self._failure(why) from why

    def restore(self, like: State) -> Found | None:
        """The last checkpoint that can be read, or None if there are none.

        One that is damaged is put aside, with a warning, and the one before it is read.

        Args:
          like: shapes, dtypes and places of the state.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            if hosts.told(self._readable(step) if hosts.first() else 0):
                found: Any = self._manager.restore(
                    step,
                    args=ocp.args.Composite(
                        state=ocp.args.StandardRestore(like._asdict()),
                        progress=ocp.args.JsonRestore(),
                    ),
                )
                return Found(step, State(**found.state), found.progress)
            if hosts.first():
                aside = self._aside(step)
                _log.warning(
                    "the checkpoint of step %d is damaged: passing it over for the one "
                    "before it, and moving it to %s",
                    step,
                    aside,
                )
                (self._folder / str(step)).rename(aside)
            hosts.wait(f"damaged {step}")
            self._manager.reload()
        return None

    def close(self) -> None:
        self._manager.close()

    def _aside(self, step: int) -> pathlib.Path:
        """A free place for a damaged checkpoint, beside the others' folder."""
        folder = self._folder.with_name("damaged")
        folder.mkdir(exist_ok=True)
        names = (f"{step}-{n}" if n else f"{step}" for n in itertools.count())
        return next(folder / name for name in names if not (folder / name).exists())

    def _readable(self, step: int) -> bool:
        """Whether a checkpoint is whole, found out by the first host alone.

        Reading it together, a host that fails would leave the others waiting.
        """
        try:
            _read_all(self._folder / str(step))
        except (OSError, ValueError) as why:
            _log.warning("%s/%d: %s", self._folder, step, _short(why))
            return False
        return True

    def _failure(self, why: Exception) -> SaveError:
        whole = [
            int(path.name)
            for path in self._folder.iterdir()
            if path.name.isdecimal() and (path / "_CHECKPOINT_METADATA").exists()
        ]
        left = (
            f"the checkpoint of step {max(whole)} is whole: make room and start again "
            "with the same command to go on from it"
            if whole
            else "there is none from before: make room and start again"
        )
        return SaveError(
            f"a checkpoint could not be written to {self._folder} ({_short(why)}); "
            f"{left}"
        )


def _read_all(folder: pathlib.Path) -> None:
    """Reads all of a checkpoint, a part at a time.

    Raises:
      OSError, ValueError: a part is missing or cut short.
    """
    import tensorstore  # orbax's own, which it writes arrays with

    described = ["_CHECKPOINT_METADATA", "progress/metadata"]
    described += [f"state/{name}" for name in ("_METADATA", "_sharding")]
    for name in described:
        json.loads((folder / name).read_text())
    base = {"driver": "file", "path": f"{folder / 'state'}/"}
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
    for key in store.list().result():
        store.read(key).result()


def _short(error: BaseException) -> str:
    """The cause in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # Which file it was stands in front, and what the system said at the end.
    told = lines[0]
    return told if len(told) < 300 else f"{told[:100]} ... {told[-200:]}"
