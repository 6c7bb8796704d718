"""Checkpoints: written in the background, whole or not at all, the best and the last.

They hold the state of the training step and, as JSON, what the loop knows beside it.
The folder has to be one that all hosts share.
"""

import logging
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
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
        self._manager = self._open()

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
                    progress=ocp.args.JsonSave(progress),
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
                return Found(step, *self._read(self._manager, step, like))
            if hosts.first():
                aside = self._folder.with_name("damaged") / str(step)
                _log.warning(
                    "the checkpoint of step %d is damaged: passing it over for the one "
                    "before it, and moving it to %s",
                    step,
                    aside,
                )
                aside.parent.mkdir(exist_ok=True)
                (self._folder / str(step)).rename(aside)
            hosts.wait(f"damaged {step}")
            self._manager.reload()
        return None

    def close(self) -> None:
        self._manager.close()

    def _readable(self, step: int) -> bool:
        """Whether all of a checkpoint can be read, found out by the first host alone.

        Reading it together, a host that fails would leave the others waiting.
        """
        alone = self._open(active={jax.process_index()}, read_only=True)
        try:
            self._read(alone, step, None)
        except Exception as why:  # noqa: BLE001
            _log.warning("%s/%d: %s", self._folder, step, _short(why))
            return False
        finally:
            alone.close()
        return True

    def _read(
        self, manager: ocp.CheckpointManager, step: int, like: State | None
    ) -> tuple[State, dict[str, Any]]:
        if like is None:  # into memory, wherever it was
            metadata: Any = manager.item_metadata(step)
            if metadata.state is None:
                raise ValueError("its list of arrays is missing")
            tree = jax.tree.map(
                lambda a: np.zeros(a.shape, a.dtype), metadata.state.tree
            )
        else:
            tree = like._asdict()
        found = manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(tree),
                progress=ocp.args.JsonRestore(),
            ),
        )
        state = found.state
        if like is not None:  # empty parts and tuples are told apart by the program
            leaves = jax.tree.leaves(found.state)
            state = jax.tree.unflatten(jax.tree.structure(like._asdict()), leaves)
            state = State(**state)
        return state, found.progress

    def _open(
        self, active: set[int] | None = None, *, read_only: bool = False
    ) -> ocp.CheckpointManager:
        alone = active is not None
        policy = preservation_policy
        return ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policy.AnyPreservationPolicy(
                    [
                        policy.LatestN(KEPT),
                        policy.BestN(
                            get_metric_fn=lambda metrics: metrics[_METRIC],
                            reverse=True,
                            n=1,
                            keep_checkpoints_without_metrics=False,
                        ),
                    ]
                ),
                cleanup_tmp_directories=not read_only,
                enable_async_checkpointing=not alone,
                read_only=read_only,
                create=not read_only,
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    primary_host=jax.process_index() if alone else 0,
                    active_processes=active,
                    barrier_sync_key_prefix="alone" if alone else None,
                ),
            ),
        )

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


def _short(error: BaseException) -> str:
    """The cause in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]
