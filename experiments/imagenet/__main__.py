"""Trains ResNet-50 with group, batch, layer or instance norm, on one host or many.

    python -m experiments.imagenet --data IMAGENET --out runs/gn
    python -m experiments.imagenet --data IMAGENET --out runs/bn --norm bn
    srun python -m experiments.imagenet --distributed --data IMAGENET --out runs/gn
    python -m experiments.imagenet --recipe try --data fashion-mnist-subset --out try
    python -m experiments.imagenet --weights FILE --evaluate --data IMAGENET --out of

IMAGENET is a folder with ``train/`` and ``val/`` in it, each with a folder of images
for each class. The recipe "paper" is that of Wu & He, "Group Normalization", ECCV 2018;
`config` has the others. Ctrl-C and SIGTERM leave a checkpoint, and the same command
goes on from the last one.
"""

import logging
import os
import shlex
import signal
import sys

import jax

from experiments.imagenet import hosts, options

COMMAND = ("python", "-m", "experiments.imagenet")


def main(argv: list[str] | None = None) -> int:
    """Runs, and returns the exit status: 0 also where a SIGTERM stopped the run."""
    argv = sys.argv[1:] if argv is None else argv
    config, asked = options.parse(argv)
    _prepare_logs()
    if asked.distributed:
        try:
            hosts.start(asked.coordinator, asked.hosts, asked.host)
        except (ValueError, RuntimeError) as error:
            return _failed(
                f"the other hosts cannot be found ({error}); start within Slurm, Open "
                "MPI, GKE or a TPU pod, or give --coordinator, --hosts and --host"
            )

    from experiments.imagenet import checkpoints, data, loop, session

    if hosts.first():
        device = jax.devices()[0].device_kind
        print(
            f"{config.network}, {config.norm}: {config.epochs} epochs with a batch of "
            f"{config.batch} on {jax.device_count()} x {device}, "
            f"{jax.process_count()} host{'s' if jax.process_count() > 1 else ''}",
            flush=True,
        )
    try:
        error = session.run(config, asked)
    except session.RefusalError as refusal:
        return _failed(str(refusal), 2)
    except loop.StoppedError as stopped:
        if hosts.first():
            again = shlex.join([*COMMAND, *argv])
            print(f"\n{stopped}. To go on:\n  {again}", file=sys.stderr, flush=True)
        return 0 if stopped.signum == signal.SIGTERM else 130
    except (
        checkpoints.SaveError,
        data.BadExampleError,
        hosts.DisagreementError,
        loop.NonFiniteError,
    ) as failure:
        hint = " (--skip-bad leaves such images out)"
        bad = isinstance(failure, data.BadExampleError)
        return _failed(f"{failure}{hint if bad else ''}")
    if hosts.first():
        of = "" if asked.evaluate else ", the median of the last epochs"
        print(f"validation error {100 * error:.2f}%{of}")
    return 0


def _prepare_logs() -> None:
    """Lets through what the run has to say, and not orbax's own account of it."""
    ours = logging.getLogger("experiments")
    ours.handlers = [logging.StreamHandler()]
    ours.propagate = False
    logging.getLogger("absl").setLevel(logging.CRITICAL)


def _failed(why: str, status: int = 1) -> int:
    print(f"python -m experiments.imagenet: {hosts.name()}: {why}", file=sys.stderr)
    return status


def _leave(status: int) -> None:
    """Ends the process, and where it failed, without waiting for other hosts."""
    if status and jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    _leave(main())
