"""Trains the runs of an experiment, and makes the record of what they come to."""

import dataclasses
import json
import pathlib
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from experiments import records, training
from experiments.lab import results
from experiments.lab.experiment import Record
from experiments.lab.options import Options
from experiments.lab.refusal import RefusalError, SharedError
from experiments.training import Config
from experiments.training.program import State, Task

MakeRow = Callable[[Config, Sequence[dict[str, Any]]], Record]
MEASURED = "measured.json"
Measure = Callable[[Config, training.Program, State, pathlib.Path], Record]


def train(
    options: Options,
    configs: Sequence[Config],
    task: Callable[[Config], Task],
    *,
    row: MakeRow = results.row,
    measure: Measure | None = None,
    packages: Sequence[str] = ("optax", "orbax-checkpoint"),
    keep: Callable[[Record], None] | None = None,
    until: Callable[[], bool] | None = None,
) -> Record:
    """Trains every config, or goes on with those that an earlier call left.

    Args:
      options: where to, and whether to resume.
      configs: the runs. Seeds of one config should follow one another: they share what
        is compiled.
      task: what a config trains; called once for each set of seeds.
      row: the record of one run, from its config and its epochs.
      measure: called at the end of each run with its config, program, trained state and
        folder; what it returns stands in the run's row as "measured". The folder is
        for what is no JSON, such as pictures.
      packages: distributions to name in the record.
      keep: called after each run with the record so far.
      until: asked before each run whether the time is over; the rest is then left for a
        later call that resumes.

    Returns:
      The record, with a row for each run under "runs".

    Raises:
      RefusalError: the folder holds other runs to resume.
      SharedError: a share of the runs is done, which makes no record.
      KeyboardInterrupt: after a Ctrl-C, with a checkpoint written.
    """
    _open(options, configs)
    if options.share:
        index, count = options.share
        # Long runs are dealt first, so that the parts take alike.
        dealt = sorted(configs, key=lambda config: -config.steps)[index - 1 :: count]
        configs = [config for config in configs if config in dealt]
    device = jax.devices()[0].device_kind
    print(
        f"{len(configs)} runs of {configs[0].epochs} epochs of "
        f"{configs[0].epoch_examples} examples, on {jax.device_count()} x {device}",
        flush=True,
    )
    record: Record = {
        "dataset": options.dataset,
        "size": options.size_name,
        "stamp": records.stamp(*packages),
        "runs": [],
    }
    for run in _train(options, configs, task, row, measure, until):
        record["runs"].append(run)
        if keep:
            keep(record)
    if options.share:
        raise SharedError(f"{len(configs)} runs are in {options.runs}")
    record["memory_gb"] = round(peak_memory_gb(), 2)
    return record


def finish(
    out: pathlib.Path,
    record: Record,
    *,
    figure: Callable[[Record, pathlib.Path], Any],
    tell: Callable[[Record], str],
) -> Record:
    """Writes a record and draws its figure into the folder ``out``, and says so.

    Args:
      out: a folder.
      record: with its "size", which names the files.
      figure: draws the record.
      tell: the record in words, for the terminal.
    """
    path = records.write(out / f"{record['size']}.json", record)
    figure(record, path.with_suffix(".png"))
    print(f"\nwrote {path} and {path.with_suffix('.png')}")
    if record["size"] == "quick":
        print("A quick run is too short to settle anything: leave --quick out.")
    print(f"\n{tell(record)}")
    return record


def peak_memory_gb() -> float:
    """The most memory that this process has held so far, in GB of 10^9 bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e9


def _train(
    options: Options,
    configs: Sequence[Config],
    task: Callable[[Config], Task],
    row: MakeRow,
    measure: Measure | None,
    until: Callable[[], bool] | None,
) -> Iterator[Record]:
    program: tuple[Config, training.Program] | None = None
    for config in configs:
        if until and until():
            return
        started = time.monotonic()
        unseeded = dataclasses.replace(config, seed=0)
        if program is None or program[0] != unseeded:
            program = unseeded, training.Program(task(config), config)
        folder = options.runs / config.name
        epochs = training.train(
            config,
            program[1],
            folder,
            resume=options.resume,
            at_end=measure and _measuring(measure, config, program[1], folder),
        )
        done = row(config, epochs)
        if measure:
            done["measured"] = json.loads((folder / MEASURED).read_text())
        print(
            f"{config.name}: {results.told(done)}, {time.monotonic() - started:.0f} s",
            flush=True,
        )
        yield done


def _measuring(
    measure: Measure, config: Config, program: training.Program, folder: pathlib.Path
) -> Callable[[State], None]:
    """Keeps what is measured in the folder, where a resumed session finds it."""

    def at_end(state: State) -> None:
        records.write(folder / MEASURED, measure(config, program, state, folder))

    return at_end


def _open(options: Options, configs: Sequence[Config]) -> None:
    """Makes the folder of the runs, or checks that it holds these or some of these."""
    plan: dict[str, Any] = {
        "dataset": options.dataset,
        "configs": [dataclasses.asdict(config) for config in configs],
    }
    path = options.plan
    if not (options.resume or (options.share and path.exists())):
        if path.exists() and not options.share:
            shutil.rmtree(path.parent)
        records.write(path, plan)
        return
    found = json.loads(path.read_text())
    # More seeds or norms than before are added; what there is stays as it is.
    grown = options.resume and found["dataset"] == plan["dataset"]
    if grown and all(config in plan["configs"] for config in found["configs"]):
        records.write(path, plan)
    elif found != plan:
        raise RefusalError(
            f"the runs in {options.out} were started with other options, or "
            "on another number of devices; repeat those, or name another folder "
            "with --out"
        )
