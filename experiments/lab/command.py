"""Runs an experiment from a checked command line, and says how it ended."""

import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

from experiments.lab import options
from experiments.lab.options import Command, Options
from experiments.lab.refusal import RefusalError, SharedError


def runner(
    command: Callable[[], Command], work: Callable[[Options], Any]
) -> Callable[[Sequence[str]], int]:
    """Makes the `Experiment.run` that reads a command line and conducts ``work``.

    Args:
      command: what the command line takes.
      work: runs the experiment; it imports jax when it is called, not before.
    """

    def run(argv: Sequence[str]) -> int:
        described = command()
        asked = options.parse(argv, described)
        return conduct(work, asked, argv, described.prog, described.devices)

    return run


def conduct(
    run: Callable[[Options], Any],
    asked: Options,
    argv: Sequence[str],
    prog: str,
    virtual: int,
) -> int:
    """Calls ``run(asked)`` on devices prepared, as many ``virtual`` ones on a CPU.

    Returns:
      The exit status: 0; 2 where ``run`` refused; 130 after a Ctrl-C, with a line that
      says how to go on.
    """
    from experiments.training import devices

    devices.prepare(virtual)
    try:
        run(asked)
    except SharedError as shared:
        print(shared)
    except RefusalError as refusal:
        print(f"{prog}: {refusal}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        again = [*argv, *([] if asked.resume else ["--resume"])]
        command = shlex.join([*prog.split(), *again])
        print(f"\nInterrupted. To go on:\n  {command}", file=sys.stderr)
        return 130
    return 0
