"""Trains on both sites, and writes what the runs come to."""

import base64
import functools
import io
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments import lab
from experiments.detection import recipe, report
from experiments.detection.pretraining import Pretraining
from experiments.detection.sets import Set, Sites
from experiments.detection.task import Detection
from experiments.lab import Size, session
from experiments.training import Config, Program
from experiments.training.program import State


def run(options: lab.Options) -> lab.Record:
    """Trains all runs and writes the record and the figure into ``options.out``.

    Raises:
      RefusalError: before any training, when the pictures are missing or wrong, the
        batches do not divide an epoch, or the folder holds other runs to resume.
      KeyboardInterrupt: after a Ctrl-C, with a checkpoint written.
    """
    of = recipe.SETS[options.dataset]
    try:
        sites = of.sites(options.data_folder, options.size.examples)
        configs = recipe.configs(of, options.norms, options.size)
        recipe.first(of, options.norms[0], 0, options.size)
        truth = [boxes[boxes[:, 5] == 0, :5] for boxes in sites.test.truth()]
        shown = max(range(len(truth)), key=lambda index: len(truth[index]))
        image = sites.test.image(shown)
        if not len(truth[shown]):
            raise ValueError(
                f"expected boxes in the {len(truth)} {of.words.tiles} of "
                f"{of.words.test}, got none; test on more"
            )
    except (OSError, ValueError) as error:
        raise lab.RefusalError(str(error)) from error
    for sentence in sites.said:
        print(sentence)
    pretraining, task = tasks(
        of, sites, options.size, options.out / "first", resume=options.resume
    )

    def measure(
        config: Config, program: Program, state: State, folder: pathlib.Path
    ) -> lab.Record:
        """What was found in the tile that is shown; the first seed is enough."""
        del folder
        if config.seed:
            return {}
        detector: Any = program.task
        found = detector.found(list(program.outputs(state)))[shown]
        return {"found": _rounded(found)}

    record = session.train(
        options,
        configs,
        task,
        measure=measure,
        packages=("optax", "orbax-checkpoint", "pycocotools"),
    )
    record |= {
        of.words.tiles: len(truth),
        of.words.objects: sum(map(len, truth)),
        "classes": sites.classes,
        "said": sites.said,
        "first": [
            _first(pretraining, norm, seed, of.first_batch)
            for norm in dict.fromkeys(recipe.SOURCES[n] for n in options.norms)
            for seed in range(options.size.seeds)
        ],
        "shown": {
            "jpeg": _jpeg(image),
            of.words.objects: _rounded(truth[shown]),
        },
    }
    record["seconds"] = _seconds(record)
    return session.finish(options.out, record, figure=report.figure, tell=report.table)


def tasks(
    of: Set, sites: Sites, size: Size, folder: pathlib.Path, *, resume: bool
) -> tuple[Pretraining, Callable[[Config], Detection]]:
    """What is trained on the first site, and what goes on from there on the second.

    Args:
      of: the set.
      sites: read from it.
      size: of the training on the first site.
      folder: for that training.
      resume: whether to take what an earlier session left there.
    """
    detection = functools.partial(
        Detection,
        test=sites.test,
        shape=of.shape,
        network=of.network,
        classes=sites.classes,
        reach=of.reach,
        candidates=of.candidates,
    )
    pretraining = Pretraining(
        folder,
        lambda norm: detection(source=sites.first, norm=norm),
        lambda norm, seed: recipe.first(of, norm, seed, size),
        resume=resume,
    )

    def second(config: Config) -> Detection:
        weights = functools.partial(pretraining.weights, recipe.SOURCES[config.norm])
        return detection(source=sites.second, norm=config.norm, start=weights)

    return pretraining, second


def _first(pretraining: Pretraining, norm: str, seed: int, batch: int) -> lab.Record:
    """The part of the record on the training on the first site."""
    epochs = pretraining.epochs(norm, seed)
    return {
        "norm": norm,
        "seed": seed,
        "batch": batch,
        "epochs": len(epochs),
        "ap": round(epochs[-1]["test_ap"], 6),
        "ap50": round(epochs[-1]["test_ap50"], 6),
        "seconds": round(sum(epoch["seconds"] for epoch in epochs), 1),
    }


def _seconds(record: lab.Record) -> float:
    """Of training on both sites."""
    return round(sum(run["seconds"] for run in record["first"] + record["runs"]), 1)


def _rounded(boxes: np.ndarray) -> list[list[float]]:
    return [[round(value, 2) for value in box] for box in boxes.tolist()]


def _jpeg(image: np.ndarray) -> str:
    """A picture as text: the figure is redrawn where the pictures are not at hand."""
    import PIL.Image

    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, "JPEG", quality=90)
    return base64.b64encode(buffer.getvalue()).decode()
