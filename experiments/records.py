"""Records of measured runs: JSON files that say where and when they were made."""

import dataclasses
import datetime as dt
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
from typing import Any

import jax

_PACKAGES = ("flax_gn", "jax", "jaxlib", "flax", "numpy")


def stamp(*packages: str) -> dict[str, Any]:
    """Date, machine, device and versions, for the head of a record.

    Args:
      *packages: distributions to name beside jax, jaxlib, flax and numpy.
    """
    devices = jax.devices()
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "device": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {
            name: version
            for name in (*_PACKAGES, *packages)
            if (version := _version(name)) is not None
        },
    }


def write(path: str | os.PathLike, record: Any) -> pathlib.Path:
    """Writes a record as JSON, whole or not at all."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        record = dataclasses.asdict(record)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(record, indent=1) + "\n")
    unfinished.replace(path)
    return path


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout this file is in, "+" if changed; None elsewhere."""
    folder = pathlib.Path(__file__).parent
    try:
        run = subprocess.run(
            ["git", "-C", folder, "describe", "--always", "--dirty=+", "--abbrev=10"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()


def _processor() -> str:
    try:
        with pathlib.Path("/proc/cpuinfo").open() as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
