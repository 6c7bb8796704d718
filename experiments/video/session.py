"""Trains on clips of both batch sizes, and writes what the runs come to."""

import base64

import numpy as np

from experiments import data, lab
from experiments.lab import session
from experiments.training import Config
from experiments.video import paths, recipe, report
from experiments.video.task import Motion


def run(options: lab.Options) -> lab.Record:
    """Trains all runs and writes the record and the figure into ``options.out``.

    Raises:
      RefusalError: before any training, when the batches do not divide an epoch, or the
        folder holds other runs to resume.
      KeyboardInterrupt: after a Ctrl-C, with a checkpoint written.
    """
    try:
        configs = recipe.configs(options.norms, options.size)
    except ValueError as error:
        raise lab.RefusalError(str(error)) from error
    dataset = data.load(data.NAMES[0])
    test = paths.drawn(
        paths.shrunk(dataset.test_images, recipe.HALVINGS),
        recipe.SHAPE,
        recipe.TEST_SEED,
        0,
        0,
        recipe.TEST,
    )
    things = paths.shrunk(dataset.train_images, recipe.HALVINGS)

    def task(config: Config) -> Motion:
        return Motion(things, test, recipe.SHAPE, recipe.network, config.norm)

    record = session.train(options, configs, task)
    record |= {
        "dataset": f"moving {dataset.name}",
        "clips": len(test.labels),
        "shape": list(test.images.shape[1:]),
        "shown": {
            "label": list(paths.DIRECTIONS)[int(test.labels[0])],
            "shape": list(test.images.shape[1:]),
            "bytes": base64.b64encode(np.ascontiguousarray(test.images[0])).decode(),
        },
    }
    return session.finish(options.out, record, figure=report.figure, tell=report.table)
