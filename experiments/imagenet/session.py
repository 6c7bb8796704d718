"""One run: checks that it can be, opens its data and its folder, and trains."""

import dataclasses
import json
import pathlib
from typing import Any

from experiments import records
from experiments.imagenet import data, hosts
from experiments.imagenet.config import Config
from experiments.imagenet.loop import Loop
from experiments.imagenet.options import Options
from experiments.imagenet.program import Program, mesh

# What a run may change when it goes on: it has an influence on failures alone.
_FREE = ("skip_bad", "skip_nonfinite")


class RefusalError(Exception):
    """What is asked for cannot be."""


def run(config: Config, options: Options) -> float:
    """Trains to the end, and returns the median validation error of the last epochs.

    With ``options.evaluate``, returns the validation error of what is there instead.

    All hosts call it, with the same arguments. A run that was stopped, in whichever
    way, goes on from its last checkpoint.

    Raises:
      RefusalError: the data, the weights or the folder do not allow the run.
      hosts.DisagreementError: hosts have different data or options.
      loop.StoppedError: after a SIGTERM or Ctrl-C on any host.
      loop.NonFiniteError: unless ``config.skip_nonfinite``.
      data.BadExampleError: unless ``config.skip_bad``.
      checkpoints.SaveError: the disk is full, or gone.
    """
    try:
        train, validation = (
            data.open_split(
                options.data,
                split,
                image_size=config.image_size,
                examples=options.synthetic_examples,
            )
            for split in ("train", "validation")
        )
        if train.classes != validation.classes:
            raise ValueError(
                f"--data {options.data}: {train.classes} classes in training and "
                f"{validation.classes} in validation; they must be the same"
            )
        order = data.Order(len(train), config.batch, config.seed)
        program = Program(config, train.classes, order.epoch_steps, mesh())
    except (OSError, ValueError, ModuleNotFoundError) as error:
        raise RefusalError(str(error)) from error
    plan = {
        "config": {
            name: value
            for name, value in dataclasses.asdict(config).items()
            if name not in _FREE
        },
        "data": {
            "classes": train.classes,
            "training examples": len(train),
            "validation examples": len(validation),
        },
    }
    hosts.agree("options or data", plan)
    started = (options.out / "checkpoints").exists()
    if options.evaluate and config.weights is None and not started:
        raise RefusalError(
            f"--evaluate: there are no --weights, and no checkpoints in {options.out}"
        )
    _open(options.out, plan)
    loop = Loop(config, options, program, order, train, validation)
    return loop.evaluate() if options.evaluate else loop.run()


def _open(out: pathlib.Path, plan: dict[str, Any]) -> None:
    """Makes the folder of the run, or checks that it holds this very run."""
    path = out / "plan.json"
    if hosts.first() and not path.exists():
        records.write(path, plan | {"stamp": records.stamp("optax", "grain")})
    hosts.wait("plan")
    if not path.exists():
        raise RefusalError(
            f"--out {out}: the first host wrote {path.name} there, and {hosts.name()} "
            "does not see it; all hosts need one shared folder"
        )
    found = json.loads(path.read_text())
    different = [
        f"{name} is {found[part].get(name)} there and {value} now"
        for part in plan
        for name, value in plan[part].items()
        if found[part].get(name) != value
    ]
    if different:
        raise RefusalError(
            f"--out {out}: it holds another run: {'; '.join(different)}. Name another "
            "folder, or repeat the options of that run to go on with it"
        )
