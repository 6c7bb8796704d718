"""The hosts of a run: how they find one another, and what they must agree on."""

import hashlib
import json
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


class DisagreementError(Exception):
    """Hosts that have different data or options."""


def start(coordinator: str | None, hosts: int | None, host: int | None) -> None:
    """Joins the hosts of a run, before jax first looks at its devices.

    Args:
      coordinator: address and port of the first host; None where Slurm, Open MPI, a TPU
        pod or GKE tell jax by themselves.
      hosts: how many processes there are, with ``coordinator``.
      host: which of them this is.

    Raises:
      ValueError, RuntimeError: nothing tells jax of other hosts, or they do not answer.
    """
    # CPUs need a library to exchange arrays; accelerators have their own.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        coordinator_address=coordinator, num_processes=hosts, process_id=host
    )


def first() -> bool:
    """Whether this is the host that writes logs."""
    return jax.process_index() == 0


def name() -> str:
    return f"host {jax.process_index()}"


def agree(what: str, value: Any) -> None:
    """Checks that all hosts have the same value, which JSON can hold.

    Raises:
      DisagreementError: on every host, with this host's value.
    """
    text = json.dumps(value, sort_keys=True)
    # Texts may differ in length, which arrays of all hosts must not.
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint32)
    everyone = gather(digest)
    if (everyone != everyone[0]).any():
        different = np.flatnonzero((everyone != everyone[0]).any(axis=1)).tolist()
        raise DisagreementError(
            f"hosts {different} and host 0 have different {what}; {name()} has {text}. "
            "Start all of them with the same command, on the same files"
        )


def gather(value: np.ndarray) -> np.ndarray:
    """The values of all hosts, (hosts, ...)."""
    if jax.process_count() == 1:
        return np.asarray(value)[None]
    return np.asarray(multihost_utils.process_allgather(value)).reshape(
        jax.process_count(), *np.shape(value)
    )


def told(value: int) -> int:
    """The first host's value."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def wait(what: str) -> None:
    """Until all hosts are here."""
    multihost_utils.sync_global_devices(what)
