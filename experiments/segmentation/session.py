"""Trains the U-Nets, and writes what they come to."""

import base64
import pathlib
from typing import Any

import numpy as np

from experiments import lab
from experiments.lab import session
from experiments.segmentation import recipe, report
from experiments.segmentation.task import Segmentation
from experiments.training import Config, Program
from experiments.training.program import State


def run(options: lab.Options) -> lab.Record:
    """Trains all runs and writes the record and the figure into ``options.out``.

    Raises:
      RefusalError: before any training, when volumes are missing or damaged, the
        batches do not divide an epoch, or the folder holds other runs to resume.
      KeyboardInterrupt: after a Ctrl-C, with a checkpoint written.
    """
    of = recipe.SETS[options.dataset]
    try:
        configs = recipe.configs(of, options.norms, options.size)
        cases = of.cases(options.data_folder, options.size.examples)
    except (OSError, ValueError) as error:
        raise lab.RefusalError(str(error)) from error

    def task(config: Config) -> Segmentation:
        geometry = of.geometries[config.network]
        return Segmentation(cases, geometry, geometry.network, config.norm)

    def measure(
        config: Config, program: Program, state: State, folder: pathlib.Path
    ) -> lab.Record:
        """What was said of the slice that is shown; the first seed is enough."""
        del folder
        if config.seed:
            return {}
        segmentation: Any = program.task
        return {"said": encoded(segmentation.said(program.outputs(state)))}

    record = session.train(
        options,
        configs,
        task,
        measure=measure,
        packages=("optax", "orbax-checkpoint", "nibabel"),
    )
    image, labels = cases.shown()
    record |= {
        "dataset": cases.name,
        "classes": len(cases.classes),
        "patches": of.record(cases),
        "shown": {"image": encoded(image), "labels": encoded(labels)},
    }
    return session.finish(options.out, record, figure=report.figure, tell=report.table)


def encoded(picture: np.ndarray) -> dict[str, Any]:
    """A picture of bytes as JSON; `report.decoded` reads it."""
    content = base64.b64encode(np.ascontiguousarray(picture, np.uint8).tobytes())
    return {"shape": list(picture.shape), "bytes": content.decode()}
