"""Runs the configs of a command line, and writes what they come to."""

import functools

import jax

from experiments import data, lab, records, training
from experiments.lab import session
from experiments.lab.options import Options
from experiments.small_batch import recipe, report, results


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
        raise lab.RefusalError(str(error)) from error
    task = functools.cache(
        functools.partial(training.Classification, dataset, recipe.network)
    )
    record = session.train(
        options, configs, lambda config: task(config.norm), row=results.run
    )
    path = records.write(options.out / f"{options.size_name}.json", record)
    figure = report.figure(record, path.with_suffix(".png"))
    print(f"\nTest error (%)\n{report.plain(record)}\n{report.outcome(record)}")
    if options.size_name == "quick":
        print("A quick run is too short to settle anything: leave --quick out.")
    print(f"\nwrote {path} and {figure}")
    return record
