"""Trains on clips of both batch sizes, and writes what the runs come to."""

import base64
from typing import Any

import numpy as np

from experiments import lab
from experiments.data.films import DamagedFilmError
from experiments.lab import session
from experiments.training import Config
from experiments.video import recipe, report
from experiments.video.sets import Source
from experiments.video.task import Recognition

# Of the clip that is drawn: pictures, and pixels of their sides, roughly.
SHOWN_FRAMES, SHOWN_SIDE = 6, 56


def run(options: lab.Options) -> lab.Record:
    """Trains all runs and writes the record and the figure into ``options.out``.

    Raises:
      RefusalError: before any training, when films are missing or cannot be decoded,
        the batches do not divide an epoch, or the folder holds other runs to resume;
        and later, when a film turns out to be damaged.
      KeyboardInterrupt: after a Ctrl-C, with a checkpoint written.
    """
    of = recipe.SETS[options.dataset]
    try:
        source = of.source(options.data_folder, options.size.examples)
        configs = recipe.configs(of, source, options.norms, options.size)
        shown = _shown(source)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        raise lab.RefusalError(str(error)) from error

    def task(config: Config) -> Recognition:
        return Recognition(source, of.network, config.norm)

    try:
        record = session.train(options, configs, task)
    except DamagedFilmError as error:
        raise lab.RefusalError(
            f"{error}. What was trained so far is kept: with --resume the same command "
            "goes on, if the list of films has stayed as it was"
        ) from error
    record |= {
        "dataset": source.name,
        "clips": source.tested,
        "classes": len(source.classes),
        "shape": list(source.shape[:-1]),
        "shown": shown,
    }
    return session.finish(options.out, record, figure=report.figure, tell=report.table)


def _shown(source: Source) -> dict[str, Any]:
    """The first test clip as JSON, in a few small pictures."""
    first = next(source.batches(1))
    clip = first.images[0]
    times, down, across, channels = clip.shape
    clip = clip[:: max(1, times // SHOWN_FRAMES)][:SHOWN_FRAMES]
    step = max(1, min(down, across) // SHOWN_SIDE)
    clip = np.ascontiguousarray(clip[:, ::step, ::step])
    shape = clip.shape if channels > 1 else clip.shape[:-1]
    return {
        "label": source.classes[int(first.labels[0])],
        "shape": list(shape),
        "bytes": base64.b64encode(clip).decode(),
    }
