"""The loop around the compiled parts: epochs, records, checkpoints, interruption."""

import contextlib
import json
import pathlib
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from tqdm import tqdm

from experiments.training.config import Config
from experiments.training.program import Program, State

CHECKPOINT_SECONDS = 60.0  # between checkpoints of a run that nobody interrupts
Record = dict[str, Any]


def train(
    config: Config,
    program: Program,
    folder: pathlib.Path,
    *,
    resume: bool = False,
    bar: bool | None = None,
    at_end: Callable[[State], None] | None = None,
) -> list[Record]:
    """Trains one run to its end.

    The folder gets ``epochs.jsonl``, a line per epoch as it ends, and ``checkpoint/``,
    while the run is unfinished.

    Args:
      config: the run.
      program: compiled for this config, whatever its seed.
      folder: of this run alone.
      resume: goes on where the folder's checkpoint stands, to the same bits as a run
        that was never interrupted; otherwise the folder's earlier run is removed.
      bar: whether to show a progress bar; None shows it on a terminal only.
      at_end: called with the trained state before the last epoch is recorded, so that
        a finished run is one for which it has returned.

    Returns:
      A record per epoch: its number, examples seen so far, seconds of training (with
      compilation, where it fell), the task's sums per example with "train_" before
      their names, and its metrics with "test_".

    Raises:
      KeyboardInterrupt: after a Ctrl-C, once a checkpoint is written. A second one
        comes through at once.
    """
    run = _Run(config, program, folder.absolute(), resume, at_end)
    bar_of_examples = tqdm(
        total=config.epochs * config.epoch_examples,
        initial=run.step * config.global_batch,
        unit=" examples",
        unit_scale=True,
        desc=f"{config.name}: compiling",
        disable=None if bar is None else not bar,
        leave=False,
    )
    with interruption() as interrupted, bar_of_examples as progress:
        while run.step < config.steps:
            run.advance()
            progress.set_description(config.name, refresh=False)
            progress.update(config.chunk_steps * config.global_batch)
            if run.records:
                last = run.records[-1]
                told = (f"{k[5:]} {last[k]:.3g}" for k in last if k[:5] == "test_")
                progress.set_postfix_str(", ".join(told), refresh=False)
            if interrupted():
                run.save()
                raise KeyboardInterrupt
    run.finish()
    return run.records


def read_epochs(folder: pathlib.Path) -> list[Record]:
    """The records of the epochs that a run has finished."""
    path = folder / "epochs.jsonl"
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    with contextlib.suppress(json.JSONDecodeError):  # a line cut short by a kill
        return [json.loads(line) for line in lines]
    return [json.loads(line) for line in lines[:-1]]


@contextlib.contextmanager
def interruption() -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C into a flag to look at; the second one raises."""
    hit = []

    def handler(signum, frame):
        if hit:
            signal.default_int_handler(signum, frame)
        hit.append(signum)
        tqdm.write("Interrupted: finishing the steps under way, then a checkpoint.")

    previous = signal.signal(signal.SIGINT, handler)
    try:
        yield lambda: bool(hit)
    finally:
        signal.signal(signal.SIGINT, previous)


class _Run:
    """Where a run stands."""

    def __init__(
        self,
        config: Config,
        program: Program,
        folder: pathlib.Path,
        resume: bool,
        at_end: Callable[[State], None] | None,
    ):
        self.config, self.program, self.folder = config, program, folder
        self._at_end = at_end
        self.step = 0
        self.records: list[Record] = []
        self._sums: dict[str, float] = {}
        self._seconds = 0.0
        self._saved = time.monotonic()
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        done = read_epochs(folder)
        if len(done) == config.epochs:
            self.records, self.step = done, config.steps
            return
        self.state = program.init(config.seed)
        self._restore(program, done)

    def advance(self) -> None:
        """One dispatch, and what is due at the end of an epoch."""
        started = time.monotonic()
        config = self.config
        epoch, within = divmod(self.step, config.epoch_steps)
        batch = self.program.task.training_batch(
            config,
            epoch,
            within * config.global_batch,
            config.chunk_steps * config.global_batch,
        )
        self.state, sums = self.program.train(self.state, batch)
        for name, values in sums.items():
            total = float(np.sum(values, dtype=np.float64))
            self._sums[name] = self._sums.get(name, 0.0) + total
        self.step += config.chunk_steps
        self._seconds += time.monotonic() - started
        if self.step % config.epoch_steps == 0:
            self._end_epoch()
        if time.monotonic() - self._saved > CHECKPOINT_SECONDS:
            self.save()

    def _end_epoch(self) -> None:
        examples = self.config.epoch_examples
        record: Record = {
            "epoch": self.step // self.config.epoch_steps,
            "examples": self.step * self.config.global_batch,
            "seconds": round(self._seconds, 3),
        }
        record |= {f"train_{k}": v / examples for k, v in self._sums.items()}
        tested = self.program.evaluate(self.state)
        record |= {f"test_{k}": v for k, v in tested.items()}
        if self._at_end is not None and self.step == self.config.steps:
            self._at_end(self.state)
        self.records.append(record)
        self._sums, self._seconds = {}, 0.0
        with (self.folder / "epochs.jsonl").open("a") as lines:
            lines.write(json.dumps(record) + "\n")

    def finish(self) -> None:
        """Removes the checkpoint: the records say all."""
        shutil.rmtree(self.folder / "checkpoint", ignore_errors=True)

    def save(self) -> None:
        """Writes a checkpoint in place of the last one."""
        progress = {"sums": self._sums, "seconds": self._seconds}
        with self._checkpoints() as checkpoints:
            checkpoints.save(
                self.step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(jax.tree.map(np.asarray, self.state)),
                    progress=ocp.args.JsonSave(progress),
                ),
                force=True,
            )
        self._saved = time.monotonic()

    def _restore(self, program: Program, done: list[Record]) -> None:
        with self._checkpoints() as checkpoints:
            step = checkpoints.latest_step()
            if step is not None:
                like = jax.tree.map(np.asarray, self.state)
                found = checkpoints.restore(
                    step,
                    args=ocp.args.Composite(
                        state=ocp.args.StandardRestore(like),
                        progress=ocp.args.JsonRestore(),
                    ),
                )
                self.state, self.step = program.place(State(*found.state)), step
                self._sums = found.progress["sums"]
                self._seconds = found.progress["seconds"]
        # Epochs after the checkpoint are made again.
        self.records = done[: self.step // self.config.epoch_steps]
        lines = "".join(json.dumps(record) + "\n" for record in self.records)
        (self.folder / "epochs.jsonl").write_text(lines)

    def _checkpoints(self) -> ocp.CheckpointManager:
        return ocp.CheckpointManager(
            self.folder / "checkpoint",
            options=ocp.CheckpointManagerOptions(
                max_to_keep=1, enable_async_checkpointing=False
            ),
        )
