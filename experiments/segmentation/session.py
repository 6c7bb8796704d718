"""Trains the U-Nets, and writes what they come to."""

import base64
import functools
import pathlib
from typing import Any

import numpy as np

from experiments import lab
from experiments.data import brain
from experiments.lab import session
from experiments.segmentation import patches, recipe, report
from experiments.segmentation.task import Segmentation
from experiments.training import Config, Program
from experiments.training.program import State


def run(options: lab.Options) -> lab.Record:
    """Trains all runs and writes the record and the figure into ``options.out``.

    Raises:
      RefusalError: before any training, when the brain is missing, the batches do not
        divide an epoch, or the folder holds other runs to resume.
      KeyboardInterrupt: after a Ctrl-C, with a checkpoint written.
    """
    try:
        train, test = recipe.split(brain.load(halvings=recipe.HALVINGS))
        configs = recipe.configs(options.norms, options.size)
    except (OSError, ValueError) as error:
        raise lab.RefusalError(str(error)) from error

    def task(config: Config) -> Segmentation:
        geometry = recipe.GEOMETRIES[config.network]
        return Segmentation(
            train,
            test,
            corners=patches.grid(test, geometry.shape, geometry.step),
            shape=geometry.shape,
            classes=len(recipe.CLASSES),
            network=functools.partial(recipe.network, config.network),
            norm=config.norm,
        )

    def measure(
        config: Config, program: Program, state: State, folder: pathlib.Path
    ) -> lab.Record:
        """What was said of the slice that is shown; the first seed is enough."""
        del folder
        if config.seed:
            return {}
        of: Any = program.task
        whole = patches.assembled(
            of.said(program.outputs(state)), of.corners, of.shape, test.image.shape
        )
        return {"said": encoded(whole[:, :, recipe.SHOWN])}

    record = session.train(
        options,
        configs,
        task,
        measure=measure,
        packages=("optax", "orbax-checkpoint", "nibabel"),
    )
    record |= {
        "dataset": brain.NAME,
        "patches": {
            name: {
                "shape": list(geometry.shape),
                "test": len(patches.grid(test, geometry.shape, geometry.step)),
            }
            for name, geometry in recipe.GEOMETRIES.items()
        },
        "shown": {
            "image": encoded(test.image[:, :, recipe.SHOWN]),
            "labels": encoded(test.labels[:, :, recipe.SHOWN]),
        },
    }
    return session.finish(options.out, record, figure=report.figure, tell=report.table)


def encoded(picture: np.ndarray) -> dict[str, Any]:
    """A picture of bytes as JSON; `report.decoded` reads it."""
    content = base64.b64encode(np.ascontiguousarray(picture, np.uint8).tobytes())
    return {"shape": list(picture.shape), "bytes": content.decode()}
