"""Devices by name, and the settings of a machine that decide whether a calculation repeats."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

VARIABLES = ("CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "PYTHONHASHSEED")


class DeviceError(ValueError):
    """A device that this machine does not have."""


def find_device(name: str) -> torch.device:
    """cpu, cuda, cuda:N or mps, known to be present. DeviceError otherwise: nothing falls back to the CPU."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"unknown device {name!r}: wanted cpu, cuda, cuda:N or mps") from error
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if device.type not in counts:
        raise DeviceError(f"unsupported device {name!r}: wanted cpu, cuda, cuda:N or mps")
    if (device.index or 0) >= counts[device.type]:
        raise DeviceError(
            f"wanted device {name}, found {counts[device.type]} {device.type} device(s) with torch {torch.__version__}; "
            f"name another one"
        )
    return device


@contextmanager
def repeatable(device: torch.device, threads: int) -> Iterator[None]:
    """`threads` threads inside and, on the CPU, deterministic algorithms; what was set before outside.

    On the CPU the same seed, thread count and machine give the same bits. On accelerators sums may be ordered anew in each run."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])


def environment(device: torch.device) -> dict[str, Any]:
    """What ran a calculation, as plain data: interpreter, torch, processor, device, threads, and the variables that change results."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "processors": os.cpu_count() or 1,
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
