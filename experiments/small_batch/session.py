"""Runs the configs of a command line, and writes what they come to."""

import dataclasses
import json
import pathlib
import shutil
import time
from typing import Any

import jax

from experiments import data, records, training
from experiments.small_batch import recipe, report, results
from experiments.small_batch.options import Options
from experiments.training import Config


class RefusalError(Exception):
    """The command line asks for something that cannot be."""


def run(options: Options) -> results.Record:
    """Trains all runs and writes the record and the figure into ``options.out``.

    Raises:
      RefusalError: before any training, when the data is missing, the batches do not
        fit the devices or the data, or the folder holds other runs to resume.
      KeyboardInterrupt: after a Ctrl-C, with a checkpoint written.
    """
    try:
        dataset = data.load(options.dataset, options.data_folder)
        configs = recipe.configs(
            options.norms,
            options.size,
            devices=jax.device_count(),
            available=len(dataset.train_labels),
            parallelism=options.parallelism,
        )
    except (OSError, ValueError) as error:
        raise RefusalError(str(error)) from error
    _open(options, configs)
    device = jax.devices()[0].device_kind
    print(
        f"{len(configs)} runs of {options.size.epochs} epochs of "
        f"{configs[0].epoch_examples} examples, on {jax.device_count()} x {device}",
        flush=True,
    )
    record: results.Record = {
        "dataset": options.dataset,
        "size": options.size_name,
        "stamp": records.stamp("optax", "orbax-checkpoint"),
        "runs": _train(dataset, configs, options.runs, resume=options.resume),
    }
    path = records.write(options.out / f"{options.size_name}.json", record)
    figure = report.figure(record, path.with_suffix(".png"))
    print(f"\nTest error (%)\n{report.plain(record)}\n{report.outcome(record)}")
    if options.size_name == "quick":
        print("A quick run is too short to settle anything: leave --quick out.")
    print(f"\nwrote {path} and {figure}")
    return record


def _train(
    dataset: data.Dataset, configs: list[Config], runs: pathlib.Path, *, resume: bool
) -> list[results.Record]:
    done = []
    tasks: dict[str, training.Classification] = {}
    program: tuple[Config, training.Program] | None = None
    for config in configs:
        started = time.monotonic()
        task = tasks.setdefault(
            config.norm,
            training.Classification(dataset, recipe.network, config.norm),
        )
        # Seeds follow one another and share what was compiled for the first.
        unseeded = dataclasses.replace(config, seed=0)
        if program is None or program[0] != unseeded:
            program = unseeded, training.Program(task, config)
        epochs = training.train(config, program[1], runs / config.name, resume=resume)
        row = results.run(config, epochs)
        print(
            f"{config.name}: error {100 * row['test_error']:.1f}%, "
            f"{time.monotonic() - started:.0f} s",
            flush=True,
        )
        done.append(row)
    return done


def _open(options: Options, configs: list[Config]) -> None:
    """Makes the folder of the runs, or checks that it holds these very runs."""
    plan: dict[str, Any] = {
        "dataset": options.dataset,
        "configs": [dataclasses.asdict(config) for config in configs],
    }
    path = options.plan
    if not options.resume:
        if path.exists():
            shutil.rmtree(path.parent)
        records.write(path, plan)
        return
    if json.loads(path.read_text()) != plan:
        raise RefusalError(
            f"--resume: the runs in {options.out} were started with other options, or "
            "on another number of devices; repeat those, or leave --resume out to "
            "start afresh"
        )
