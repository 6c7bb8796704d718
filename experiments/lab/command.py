"""Runs an experiment from a checked command line, and says how it ended."""

import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

from experiments.lab.options import Options
from experiments.lab.refusal import RefusalError


def conduct(
    run: Callable[[Options], Any], asked: Options, argv: Sequence[str], prog: str
) -> int:
    """Calls ``run(asked)`` on prepared devices.

    Returns:
      The exit status: 0; 2 where ``run`` refused; 130 after a Ctrl-C, with a line that
      says how to go on.
    """
    from experiments.training import devices

    devices.prepare()
    try:
        run(asked)
    except RefusalError as refusal:
        print(f"{prog}: {refusal}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        again = [*argv, *([] if asked.resume else ["--resume"])]
        command = shlex.join([*prog.split(), *again])
        print(f"\nInterrupted. To go on:\n  {command}", file=sys.stderr)
        return 130
    return 0
