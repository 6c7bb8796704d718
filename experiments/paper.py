"""The paper's eight devices on one accelerator, in the minutes that it is lent.

    python -m experiments paper --minutes 9
    python -m experiments paper --minutes 9 --resume

`small_batch`, `norms` and `groups` on all of Fashion-MNIST, with deeper networks
than a CPU can afford and no stride in the first convolution. The
eight devices are an axis of one program (`vmap`): each part of a batch has statistics
of its own, and the gradients are averaged. Everything is float32; what the device makes
of it in convolutions, such as TF32, is left to it.

A pilot times a step at the largest and the smallest batch, and gives each experiment
the epochs that fit its part of the time. A record is written after every run, and
`--resume` goes on with those that were not reached.
"""

import argparse
import dataclasses
import functools
import json
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from experiments import data, records, training
from experiments.groups import recipe as groups
from experiments.lab import Record, RefusalError, Size, catalogue, images, plan, session
from experiments.lab.options import Options
from experiments.small_batch import recipe as small_batch
from experiments.training.vgg import VGG
from flax_gn import models

SIZE = "paper"  # names the records
MARGIN = 0.85  # of the time is planned for
MOST_EPOCHS = 30


@dataclasses.dataclass(frozen=True)
class Part:
    """What is run of an experiment.

    Attributes:
      name: of the experiment.
      time: its part of the minutes.
      network: what is trained.
      norms: by name.
      rates: peak learning rates by norm.
      batches: examples on each of the eight.
      seeds: how many.
    """

    name: str
    time: float
    network: Callable[..., Any]
    norms: tuple[str, ...]
    rates: dict[str, float]
    batches: tuple[int, ...]
    seeds: int


RESNET = functools.partial(
    models.ResNet,
    stages=(3, 3, 3),
    block=models.BasicBlock,
    width=32,
    stem="cifar",
)
PARTS = (
    Part(
        "small_batch",
        0.5,
        RESNET,
        small_batch.NORMS,
        small_batch.RATES,
        (32, 8, 2, 1),
        1,
    ),
    Part("norms", 0.2, RESNET, ("bn", "ln", "in", "gn"), small_batch.RATES, (32,), 3),
    Part(
        "groups",
        0.3,
        functools.partial(VGG, stages=((64, 64), (64, 128), (128, 128))),
        groups.NORMS,
        groups.RATES,
        (32,),
        1,
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the parts one after another."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments paper",
        description="Runs small_batch, norms and groups on one accelerator, with the "
        "paper's eight devices as an axis of one program, at the size that fits.",
        allow_abbrev=False,
    )
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--dataset", choices=data.NAMES, default="fashion-mnist")
    parser.add_argument("--data-folder", type=pathlib.Path)
    parser.add_argument("--parts", nargs="+", choices=[part.name for part in PARTS])
    parser.add_argument("--examples", type=int, help="of the training set, at most")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/paper"))
    parser.add_argument("--resume", action="store_true", help="go on in --out")
    args = parser.parse_args(argv)
    try:
        dataset = data.load(args.dataset, args.data_folder)
    except (OSError, ValueError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    chosen = [part for part in PARTS if not args.parts or part.name in args.parts]
    started, spent = time.monotonic(), 0.0
    for part in chosen:
        spent += part.time / sum(p.time for p in chosen)
        try:
            run(part, dataset, args, started + 60 * args.minutes * spent)
        except RefusalError as refusal:
            print(f"{parser.prog}: {refusal}", file=sys.stderr)
            return 2
    return 0


def run(
    part: Part, dataset: data.Dataset, args: argparse.Namespace, deadline: float
) -> Record:
    """Trains what fits until the deadline, and writes record and figure.

    Args:
      part: of the experiments.
      dataset: to train on.
      args: the command line.
      deadline: by `time.monotonic`; a run that is under way then comes to its end.

    Raises:
      RefusalError: the folder holds other runs to resume.
    """

    def configs(epochs: int) -> list[training.Config]:
        made = plan.configs(
            part.norms,
            Size(epochs, part.batches, part.seeds, args.examples),
            part.rates,
            devices=images.MAPPED,
            available=len(dataset.train_labels),
            parallelism="vmap",
        )
        # Every cell has its first seed before any has its second.
        return sorted(made, key=lambda config: config.seed)

    def task(config: training.Config) -> training.Classification:
        return training.Classification(dataset, part.network, config.norm)

    def write(record: Record) -> None:
        record["epochs_planned"] = epochs
        record["missing"] = len(planned) - len(record["runs"])
        path = records.write(args.out / part.name / f"{SIZE}.json", record)
        if not record["missing"]:
            catalogue.load(part.name).figure(record, path.with_suffix(".png"))

    out = args.out / part.name
    options = Options(
        dataset=args.dataset,
        data_folder=args.data_folder,
        norms=part.norms,
        size_name=SIZE,
        size=Size(1, part.batches, part.seeds),
        parallelism="vmap",
        out=out,
        resume=args.resume and (out / "runs" / "plan.json").exists(),
    )
    if options.resume:
        epochs = json.loads(options.plan.read_text())["configs"][0]["epochs"]
    else:
        left = MARGIN * (deadline - time.monotonic())
        epochs = fitting(configs(1), task, left)
    planned = configs(epochs)
    record = session.train(
        options, planned, task, keep=write, until=lambda: over(deadline)
    )
    write(record)
    print(f"{part.name}: {len(record['runs'])} of {len(planned)} runs", flush=True)
    return record


def over(deadline: float) -> bool:
    """Whether the time is spent, by `time.monotonic`."""
    return time.monotonic() > deadline


def fitting(configs: Sequence[Any], task: Callable[[Any], Any], seconds: float) -> int:
    """How many epochs of all ``configs``, of one epoch each, fit into ``seconds``.

    A step is timed at the smallest and the largest batch, and between them it is a
    straight line in the batch; the first call is what a program takes to compile.
    """
    began = time.monotonic()
    ends = [
        min(configs, key=lambda config: config.batch),
        max(configs, key=lambda config: config.batch),
    ]
    timed: dict[int, float] = {}
    compiling = 0.0
    for config in {config.batch: config for config in ends}.values():
        program = training.Program(task(config), config)
        state = program.init(0)
        n = config.chunk_steps * config.global_batch
        batch = program.task.training_batch(config, 0, 0, n)
        times = []
        for _ in range(3):
            started = time.monotonic()
            state, _ = program.train(state, batch)
            times.append(time.monotonic() - started)
        timed[config.batch] = min(times[1:]) / config.chunk_steps
        # An evaluation compiles as well, in less time.
        compiling = max(compiling, 1.5 * (times[0] - times[1]))
    low, high = min(timed), max(timed)

    def step(batch: int) -> float:
        part = (batch - low) / max(1, high - low)
        return timed[low] + part * (timed[high] - timed[low])

    programs = {(config.norm, config.batch, config.network) for config in configs}
    once = compiling * len(programs) + time.monotonic() - began
    each = sum(config.epoch_steps * step(config.batch) for config in configs)
    epochs = int((seconds - once) / each)
    told = ", ".join(f"{1e3 * taken:.2f} ms at {b}" for b, taken in timed.items())
    print(
        f"A step takes {told}; {len(programs)} programs compile in {compiling:.0f} s "
        "each; an epoch of "
        f"all takes {each:.0f} s: {epochs} fit",
        flush=True,
    )
    return min(MOST_EPOCHS, max(1, epochs))
