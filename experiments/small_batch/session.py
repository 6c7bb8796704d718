"""Runs the configs of a command line, and writes what they come to."""

from experiments import lab, training
from experiments.lab import images
from experiments.lab.options import Options
from experiments.small_batch import recipe, report, results


def run(options: Options) -> lab.Record:
    """Trains all runs and writes the record and the figure into ``options.out``.

    Raises:
      RefusalError: before any training; see `images.run`.
      KeyboardInterrupt: after a Ctrl-C, with a checkpoint written.
    """
    return images.run(
        options,
        lambda devices, available: recipe.configs(
            options.norms,
            options.size,
            devices=devices,
            available=available,
            parallelism=options.parallelism,
        ),
        lambda dataset, config: training.Classification(
            dataset, recipe.network, config.norm
        ),
        figure=report.figure,
        tell=lambda record: (
            f"Test error (%)\n{report.plain(record)}\n\n{report.outcome(record)}"
        ),
        row=results.run,
    )
