"""Compile-only devices: real compilers for accelerators that are not there.

`jax.experimental.topologies` describes devices that nothing can run on but that the
real compiler compiles for: TPUs with the libtpu wheel, an H100 with the CUDA plugin
wheels. What the compiler makes is then read by `experiments.benchmark.program`.
"""

import contextlib
import dataclasses
import functools
import importlib.util
import os
from collections.abc import Sequence
from importlib import resources
from typing import Any

import jax
from jax.experimental import topologies

INSTALL = "make compiled"

# libtpu asks the machine's metadata server and environment what it runs on; these
# answer for a machine without a TPU. The CUDA plugin looks for the CUDA libraries,
# which compiling does without. All are read when the plugin loads, not earlier.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
}


@dataclasses.dataclass(frozen=True)
class Target:
    """A kind of device to compile for.

    Attributes:
      platform: "tpu" or "cuda".
      topology: the default topology's name, with few devices.
      module: the import name of the wheel with the compiler.
    """

    platform: str
    topology: str
    module: str


TARGETS = {
    "h100": Target("cuda", "h100", "jax_plugins.xla_cuda13"),
    "v4": Target("tpu", "v4:2x2x1", "libtpu"),
    "v5e": Target("tpu", "v5e:2x2", "libtpu"),
    "v5p": Target("tpu", "v5p:2x2x1", "libtpu"),
    "v6e": Target("tpu", "v6e:2x2", "libtpu"),
    "7x": Target("tpu", "tpu7x:2x2x1", "libtpu"),
}


def prepare() -> None:
    """Sets the environment that the compilers need; what is set already stays.

    A process that has used jax before it calls `devices` calls this before either.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def installed(target: str) -> bool:
    """Whether the wheel with this target's compiler is here."""
    try:
        return importlib.util.find_spec(TARGETS[target].module) is not None
    except ModuleNotFoundError:
        return False


@functools.cache
def devices(target: str, topology: str | None = None) -> Sequence[Any]:
    """Compile-only devices.

    Args:
      target: a name in `TARGETS`.
      topology: another topology of that target, such as "v5e:16x16"; None for a few
        devices. The H100 target has a single device.

    Returns:
      The devices of the topology, to be put into a `Mesh` or a sharding.

    Raises:
      KeyError: there is no such target.
      RuntimeError: the wheel with the compiler is missing, or jax was started for an
        accelerator rather than with ``JAX_PLATFORMS=cpu``.
    """
    if not installed(target):
        raise RuntimeError(
            f"compiling for {target} needs a wheel that is not installed; run: "
            f"{INSTALL}"
        )
    prepare()
    name = topology or TARGETS[target].topology
    options = {}
    if TARGETS[target].platform == "cuda":
        text = (
            resources.files("experiments.benchmark").joinpath("h100.txtpb").read_text()
        )
        options = {"topology": "1x1x1", "target_config": text}
    return topologies.get_topology_desc(
        platform=TARGETS[target].platform, topology_name=name, **options
    ).devices


def compiling_for(device: Any) -> contextlib.AbstractContextManager[None]:
    """Tells Pallas which TPU it compiles for; XLA knows it from the arguments."""
    if device.platform != "tpu":
        return contextlib.nullcontext()
    abstract = jax.sharding.AbstractDevice(
        device.device_kind, device.num_cores, device.platform
    )
    mesh = jax.sharding.AbstractMesh((), (), abstract_device=abstract)
    return jax.sharding.use_abstract_mesh(mesh)


def on(device: Any, tree: Any) -> Any:
    """The shapes and dtypes of ``tree``'s arrays, placed on a compile-only device."""
    sharding = jax.sharding.SingleDeviceSharding(device)
    return jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), tree
    )
