"""What the search for the rates and the pilot train."""

import dataclasses
import pathlib

from experiments import training
from experiments.finetune import recipe
from experiments.finetune.task import CONVOLUTIONS, FILE, Finetuning, save
from experiments.lab import search
from experiments.small_batch import recipe as small_batch


def trial(norm: str, folder: pathlib.Path) -> search.Trial:
    """An arm of the recipe, from a network that knows none of what is held out.

    Args:
      norm: the arm.
      folder: gets the trained network, or has it from another arm.
    """
    dataset = search.images()
    if not (folder / FILE).exists():
        config = dataclasses.replace(
            search.config(dataset, "bn"),
            epochs=recipe.EPOCHS_BEFORE["default"],
            rate=small_batch.RATES["bn"],
        )
        task = training.Classification(dataset, small_batch.network, "bn")
        training.train(
            config,
            training.Program(task, config),
            folder / recipe.PRETRAINING,
            at_end=lambda state: save(folder, state),
        )
    name, network = recipe.ARMS[norm]
    return search.Trial(
        Finetuning(
            dataset,
            small_batch.network,
            name,
            **CONVOLUTIONS[network],
            folder=lambda _: folder,
        ),
        search.config(dataset, name, batch=2, network=network),
    )
