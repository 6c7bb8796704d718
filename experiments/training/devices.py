"""How many devices a run has."""

import os

import jax

VIRTUAL = 8  # the paper's number of GPUs


def prepare() -> None:
    """Splits a CPU into `VIRTUAL` devices, unless the user's environment says how many.

    It works only before JAX first looks at its devices. An accelerator takes precedence
    over the CPU and is left as it is.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    asked = "xla_force_host_platform_device_count" in flags
    if not asked and "JAX_NUM_CPU_DEVICES" not in os.environ:
        jax.config.update("jax_num_cpu_devices", VIRTUAL)
