"""An experiment on a set of images: loads it, trains, and writes record and figure."""

import pathlib
from collections.abc import Callable
from typing import Any

import jax

from experiments import data
from experiments.lab import session
from experiments.lab.experiment import Record
from experiments.lab.options import Options
from experiments.lab.refusal import RefusalError
from experiments.lab.results import row
from experiments.training import Config
from experiments.training.program import Task

MAPPED = 8  # devices that are an axis of one program: the paper's number of GPUs


def run(
    options: Options,
    configs: Callable[[int, int], list[Config]],
    task: Callable[[data.Dataset, Config], Task],
    *,
    figure: Callable[[Record, pathlib.Path], Any],
    tell: Callable[[Record], str],
    row: session.MakeRow = row,
    measure: session.Measure | None = None,
) -> Record:
    """Trains all runs and writes the record and the figure into ``options.out``.

    Args:
      options: the command line.
      configs: the runs, from the numbers of devices and of training images.
      task: from the images and a config, whose network and norm alone count.
      figure: draws the record.
      tell: the record in words, for the terminal.
      row: as in `session.train`.
      measure: likewise.

    Raises:
      RefusalError: before any training, when the data is missing, the batches do not
        fit the devices or the data, or the folder holds other runs to resume.
      KeyboardInterrupt: after a Ctrl-C, with a checkpoint written.
    """
    try:
        dataset = data.load(options.dataset, options.data_folder)
        count = MAPPED if options.parallelism == "vmap" else jax.device_count()
        planned = configs(count, len(dataset.train_labels))
    except (OSError, ValueError) as error:
        raise RefusalError(str(error)) from error
    tasks: dict[tuple[str, str], Task] = {}

    def of(config: Config) -> Task:
        key = config.network, config.norm
        if key not in tasks:
            tasks[key] = task(dataset, config)
        return tasks[key]

    record = session.train(options, planned, of, row=row, measure=measure)
    return session.finish(options.out, record, figure=figure, tell=tell)
