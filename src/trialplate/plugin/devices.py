"""Which devices are present, without importing torch: collection must stay light, and `-m gpu` is decided while collecting."""

from __future__ import annotations

import ctypes
import importlib.metadata
import platform
import sys
from typing import Any, NamedTuple


class Gpu(NamedTuple):
    """A GPU as its driver names it; memory in MiB."""

    name: str
    memory_mb: int


def detect() -> dict[str, str]:
    """Devices that torch can use here, {name: torch device}; the CPU is always one."""
    found = {"cpu": "cpu"}
    count = len(cuda_gpus()) if torch_has_cuda() else 0
    if count:
        found |= {"cuda": "cuda:0", **{f"cuda:{i}": f"cuda:{i}" for i in range(count)}}
    if sys.platform == "darwin" and platform.machine() == "arm64":
        found["mps"] = "mps"
    return found


def default_devices(present: dict[str, str]) -> list[str]:
    """One of each kind: a machine with eight equal GPUs is not measured eight times."""
    return [name for name in present if ":" not in name]


def torch_has_cuda() -> bool:
    """Whether the installed torch is a CUDA build, by its version: "2.13.0+cpu" is not."""
    try:
        return not importlib.metadata.version("torch").endswith("+cpu")
    except importlib.metadata.PackageNotFoundError:
        return False


def cuda_gpus() -> list[Gpu]:
    """GPUs that the CUDA driver shows to this process (it respects CUDA_VISIBLE_DEVICES); empty without a driver."""
    cuda = _driver()
    if cuda is None:
        return []
    count = ctypes.c_int()
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    found = []
    for i in range(count.value):
        device, name, memory = ctypes.c_int(), ctypes.create_string_buffer(100), ctypes.c_size_t()
        cuda.cuDeviceGet(ctypes.byref(device), i)
        cuda.cuDeviceGetName(name, 100, device)
        cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
        found.append(Gpu(name.value.decode(), memory.value >> 20))
    return found


def cuda_driver() -> str | None:
    """CUDA version of the driver ("13.0"), or None."""
    cuda, version = _driver(), ctypes.c_int()
    if cuda is None or cuda.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def _driver() -> Any:
    # by the name under which every driver installs it: find_library would start a linker to ask
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:  # not installed, or installed and not loadable: no device either way
        return None
