"""The loop around the compiled steps: metrics, validation, checkpoints, and ends."""

import collections
import contextlib
import signal
import statistics
import time
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from experiments.imagenet import data, hosts
from experiments.imagenet.checkpoints import Checkpoints
from experiments.imagenet.config import LAST_EPOCHS, Config
from experiments.imagenet.data.feed import Rows
from experiments.imagenet.journal import Journal, read
from experiments.imagenet.options import Options
from experiments.imagenet.program import Batch, Metrics, Program

_SUMS = ("loss", "errors", "examples", "left_out", "skipped", "seconds")


class StoppedError(Exception):
    """A signal ended the run, once a checkpoint was written."""

    def __init__(self, signum: int, step: int):
        super().__init__(f"stopped after step {step}; its checkpoint is written")
        self.signum = signum


class NonFiniteError(Exception):
    """A loss or gradient that is not finite."""


class Loop:
    """Trains from the last checkpoint to the end, on all hosts together.

    Args:
      config: the run.
      options: what has no influence on its numbers.
      program: compiled for this config.
      order: of the training examples.
      train: the training examples.
      validation: those of validation.
    """

    def __init__(
        self,
        config: Config,
        options: Options,
        program: Program,
        order: data.Order,
        train: data.Source,
        validation: data.Source,
    ):
        self._config, self._options, self._program = config, options, program
        self._order, self._train, self._validation = order, train, validation
        self._total = config.epochs * order.epoch_steps
        local = config.batch // jax.process_count()
        self._rows = Rows(jax.process_index() * local, local)
        self._under_way: collections.deque[tuple[int, Batch, Metrics]] = (
            collections.deque()
        )
        self._signum = 0  # asked of this host
        self._stopping = False  # agreed by all hosts
        self._checkpoints = Checkpoints(options.out)
        found = self._checkpoints.restore(program.abstract())
        if found is None:
            self._state, self._step = program.init(), 0
            self._epochs, self._sums = 0, dict.fromkeys(_SUMS, 0.0)
        else:
            self._state, self._step = found.state, found.step
            self._epochs = found.progress["epochs"]
            self._sums = found.progress["sums"]
        self._journal = Journal(options.out, self._step, self._epochs)

    def run(self) -> float:
        """Returns the median validation error of the last epochs.

        Raises:
          StoppedError, NonFiniteError, data.BadExampleError, checkpoints.SaveError.
        """
        handlers = {
            number: signal.signal(number, self._asked_to_stop)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            self._run()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            self._journal.close()
        self._checkpoints.wait()
        self._checkpoints.close()
        errors = [0.0]
        if hosts.first():
            lines = read(self._options.out)
            errors = [e["error"] for e in lines if e["kind"] == "validation"]
        # One number for all hosts, in parts of a million.
        return hosts.told(round(1e6 * statistics.median(errors[-LAST_EPOCHS:]))) / 1e6

    def evaluate(self) -> float:
        """Returns the validation error of the last checkpoint, or else the weights."""
        tested = self._evaluate()
        self._journal.close()
        self._checkpoints.close()
        return tested["errors"] / max(1.0, tested["examples"])

    def _run(self) -> None:
        options = self._options
        feed = data.training(
            self._train,
            self._config,
            self._rows,
            self._step,
            threads=options.threads,
            workers=options.workers,
        )
        bar = tqdm(
            total=self._total * self._config.batch,
            initial=self._step * self._config.batch,
            unit=" images",
            unit_scale=True,
            # None: where stderr is a terminal.
            disable=None if hosts.first() else True,
        )
        with contextlib.closing(feed), bar:
            while True:
                if self._step == (self._epochs + 1) * self._order.epoch_steps:
                    self._look(0)
                    if not self._stopping:
                        self._end_epoch()
                if self._stopping:
                    self._stop()
                if self._step == self._total:
                    return
                self._advance(Batch(*next(feed)))
                bar.update(self._config.batch)
                ends = self._step % self._order.epoch_steps == 0  # saves, once measured
                if self._step % options.checkpoint_every == 0 and not ends:
                    self._look(0)
                    self._save()

    def _advance(self, batch: Batch) -> None:
        """Starts a step, and looks at what came of the one before it.

        So the devices never wait for the host.
        """
        began = time.monotonic()
        asked = np.full(len(jax.local_devices()), self._signum > 0, np.int32)
        self._state, metrics = self._program.train(
            self._state, self._program.place(batch), self._program.place(asked)
        )
        self._step += 1
        self._under_way.append((self._step, batch, metrics))
        self._look(1)
        self._sums["seconds"] += time.monotonic() - began

    def _look(self, left: int) -> None:
        """Waits for all steps but so many, and takes up what they report."""
        while len(self._under_way) > left:
            step, batch, metrics = self._under_way.popleft()
            # All hosts read the same number at the same step.
            self._stopping |= bool(metrics.stop)
            examples = int(metrics.examples)
            self._sums["left_out"] += self._config.batch - examples
            if metrics.finite:
                self._sums["loss"] += float(metrics.loss) * examples
                self._sums["errors"] += int(metrics.errors)
                self._sums["examples"] += examples
            elif self._config.skip_nonfinite:
                self._sums["skipped"] += 1
            else:
                self._not_finite(step, batch, metrics)
            if step % self._options.log_every == 0:
                self._journal.write(
                    "train",
                    step,
                    {
                        "loss": float(metrics.loss),
                        "gradient": float(metrics.gradient),
                        "rate": float(self._program.rate(step - 1)),
                    },
                )

    def _end_epoch(self) -> None:
        sums, self._sums = self._sums, dict.fromkeys(_SUMS, 0.0)
        self._epochs += 1
        tested = self._evaluate()
        seen = max(1.0, sums["examples"])
        error = tested["errors"] / max(1.0, tested["examples"])
        values = {
            "epoch": self._epochs,
            "loss": tested["loss"] / max(1.0, tested["examples"]),
            "error": error,
            "left_out": len(self._validation) - int(tested["examples"]),
            "training_loss": sums["loss"] / seen,
            "training_error": sums["errors"] / seen,
            "training_left_out": int(sums["left_out"]),
            "steps_skipped": int(sums["skipped"]),
            "images_per_second": round(seen / max(sums["seconds"], 1e-9), 1),
        }
        self._journal.write("validation", self._step, values)
        if hosts.first():
            out = values["left_out"] + values["training_left_out"]
            bad = f", {out} images left out" if out else ""
            tqdm.write(
                f"epoch {self._epochs}: training loss {values['training_loss']:.4f}, "
                f"validation error {100 * error:.2f}%{bad}"
            )
        self._save(error)

    def _evaluate(self) -> dict[str, float]:
        """Sums over the validation set."""
        feed = data.evaluation(
            self._validation,
            self._config,
            self._rows,
            threads=self._options.threads,
            workers=self._options.workers,
        )
        sums = []
        with contextlib.closing(feed):
            for images, labels in feed:
                batch = self._program.place(Batch(images, labels))
                sums.append(
                    self._program.evaluate(self._state.params, self._state.stats, batch)
                )
        return {name: sum(float(s[name]) for s in sums) for name in sums[0]}

    def _save(self, error: float | None = None) -> None:
        progress = {"epochs": self._epochs, "sums": self._sums}
        self._checkpoints.save(self._step, self._state, progress, error)

    def _stop(self) -> None:
        self._look(0)
        self._save()
        self._checkpoints.wait()
        raise StoppedError(self._signum or signal.SIGTERM, self._step)

    def _asked_to_stop(self, signum: int, _frame: Any) -> None:
        if self._signum:  # for the second time
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)
        self._signum = signum

    def _not_finite(self, step: int, batch: Batch, metrics: Metrics) -> None:
        """Leaves behind what it takes to see the step again."""
        losses, finite = (
            np.concatenate([np.asarray(part.data) for part in array.addressable_shards])
            for array in (metrics.local_loss, metrics.local_finite)
        )
        dump = (
            self._options.out / "nonfinite" / f"step_{step}_host_{jax.process_index()}"
        )
        dump.parent.mkdir(exist_ok=True)
        np.savez(
            dump.with_suffix(".npz"),
            images=batch.images,
            labels=batch.labels,
            losses=losses,
            finite=finite,
        )
        # The state has not changed since: it is that before the step.
        self._step = step - 1
        self._state = self._program.revived(self._state)
        self._under_way.clear()
        self._save()
        self._checkpoints.wait()
        everyone = hosts.gather(np.array(finite.all()))
        guilty = np.flatnonzero(~everyone).tolist()
        where = f"on host {', '.join(map(str, guilty))}" if guilty else "in the sum"
        raise NonFiniteError(
            f"step {step}: not finite {where}: loss {float(metrics.loss)}, norm of the "
            f"gradient {float(metrics.gradient)}. The images of {hosts.name()} are in "
            f"{dump}.npz, the state before the step in the checkpoint of step "
            f"{step - 1}. With --skip-nonfinite the same command leaves the step out "
            "and goes on"
        )
