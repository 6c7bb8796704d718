"""How many devices a run has."""

import os

import jax

VIRTUAL = 8  # the paper's number of GPUs
# Virtual devices wait for one another in every all-reduce. XLA ends the program after
# 40 seconds of waiting, which a busy machine with few cores can reach.
_PATIENCE = {
    "xla_cpu_collective_call_warn_stuck_timeout_seconds": 120,
    "xla_cpu_collective_call_terminate_timeout_seconds": 1200,
}


def prepare(virtual: int = VIRTUAL) -> None:
    """Splits a CPU into so many devices, unless that was said before.

    It works only before JAX first looks at its devices. An accelerator takes precedence
    over the CPU and is left as it is.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    added = [
        f"--{name}={value}" for name, value in _PATIENCE.items() if name not in flags
    ]
    os.environ["XLA_FLAGS"] = " ".join([flags, *added]).strip()
    asked = "xla_force_host_platform_device_count" in flags
    if not asked and jax.config.jax_num_cpu_devices < 1:
        jax.config.update("jax_num_cpu_devices", virtual)
