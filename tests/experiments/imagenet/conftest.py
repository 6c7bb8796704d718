"""Hosts as processes of this machine, forked from one that has imported everything."""

import concurrent.futures
import dataclasses
import multiprocessing
import socket
import time

import pytest

from tests.experiments.imagenet import worker

# 80 examples, 5 steps in an epoch, two epochs.
ARGUMENTS = (
    *("--recipe", "try", "--data", "synthetic", "--synthetic-examples", "80"),
    *("--image-size", "8", "--batch", "16", "--epochs", "2", "--threads", "1"),
    *("--log-every", "1", "--checkpoint-every", "2"),
)
PATIENCE = 240  # seconds; a busy machine has few processors to give


@pytest.fixture(autouse=True)
def no_implicit_promotion():
    """Takes the place of the fixture for the library's tests, as in training."""


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a host ended: its exit status, or minus the signal; what it printed."""

    status: int
    printed: str


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="session")
def start(cache):
    """Runs the program on several hosts, and says how each ended.

    ``hooks`` says what goes wrong, by host; a host that others would wait for in vain
    is killed once the first has gone, as schedulers do. What a host prints comes
    through a pipe: a file would be cut short where the disk is full.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([worker.__name__])

    def run(out, *more, hosts=1, devices=1, hooks=None) -> list[Ended]:
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            port = probe.getsockname()[1]
        processes, printed = [], []
        for number in range(hosts):
            argv = [*ARGUMENTS, "--out", str(out), *more]
            if hosts > 1:
                argv += ["--coordinator", f"localhost:{port}"]
                argv += ["--hosts", str(hosts), "--host", str(number)]
            hook = (hooks or {}).get(number)
            read, log = context.Pipe(duplex=False)
            process = context.Process(
                target=worker.host, args=(argv, devices, cache, log, hook)
            )
            process.start()
            log.close()
            processes.append(process)
            printed.append(readers.submit(_read, read))
        _wait(processes)
        return [
            Ended(process.exitcode, text.result(PATIENCE))
            for process, text in zip(processes, printed, strict=True)
        ]

    with concurrent.futures.ThreadPoolExecutor() as readers:
        yield run


def _read(pipe) -> str:
    """All that is written to it until its other end is closed."""
    with pipe, open(pipe.fileno(), "rb", closefd=False) as file:
        return file.read().decode()


def _wait(processes):
    limit = time.monotonic() + PATIENCE
    while any(process.is_alive() for process in processes):
        if any(process.exitcode for process in processes):
            # The others may notice by themselves, or not: as with srun, they go too.
            for process in processes:
                process.join(5)
                process.kill()
        assert time.monotonic() < limit, [p.exitcode for p in processes]
        time.sleep(0.05)
