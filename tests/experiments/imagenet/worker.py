"""One host of a run, in a process of its own, with a network that compiles quickly."""

import functools
import os
import resource
import signal
import sys

import jax
import numpy as np

# What each host needs is imported here, once, before the hosts are forked.
from experiments.imagenet import __main__ as program
from experiments.imagenet import checkpoints, loop, networks, session
from flax_gn import models

assert session.Loop is loop.Loop
assert checkpoints.Checkpoints


def tiny() -> None:
    """Takes the place of the smallest network: one block, 8 channels."""
    networks._BLOCKS["resnet8"] = (
        functools.partial(
            models.ResNet, stages=(1,), block=models.BasicBlock, width=8, stem="cifar"
        ),
        models.BasicBlock,
    )


def kill(_, batch):
    """As the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
    return batch


def terminate(_, batch):
    """As a scheduler does."""
    os.kill(os.getpid(), signal.SIGTERM)
    return batch


def interrupt(_, batch):
    """As Ctrl-C does."""
    os.kill(os.getpid(), signal.SIGINT)
    return batch


def floating(_, batch):
    """The same images; hosts have to agree on dtypes."""
    return batch._replace(images=batch.images.astype(np.float32))


def infinite(_, batch):
    """As a faulty device may make of them."""
    return batch._replace(images=np.full(batch.images.shape, np.inf, np.float32))


def full(running, batch):
    """From here on no file grows beyond 8 kB: the kernel refuses the write."""
    running._checkpoints.wait()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
    # As orbax and tensorstore do of late writes, on a busy machine.
    print("much of its own\n" * 1000, file=sys.stderr)
    return batch


_ALL = (kill, terminate, interrupt, floating, infinite, full)
HOOKS = {f.__name__: f for f in _ALL}


def host(argv, devices, cache, log, hook) -> None:
    """Runs one host; the process' exit status is the program's.

    Args:
      argv: of the program.
      devices: how many it has.
      cache: a folder for compiled programs.
      log: the end of a pipe for what it prints.
      hook: a name in `HOOKS` and the step whose batch goes through it, or None.
    """
    with log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    tiny()
    if hook is not None:
        name, step = hook
        advance = loop.Loop._advance

        def hooked(running, batch):
            if running._step + 1 == step:
                batch = HOOKS[name](running, batch)
            advance(running, batch)

        loop.Loop._advance = hooked
    sys.argv = ["python -m experiments.imagenet", *argv]
    program._leave(program.main(argv))
