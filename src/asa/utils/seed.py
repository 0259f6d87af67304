"""The global generators (torch on the CPU and on every CUDA device, Python's, numpy's where it is loaded): borrowed and given back.

Dropout draws from the global generator of its device, so a training that must repeat has to set it; a library must not leave it changed.
`generators_kept` is the door: inside, `seed_generators` or `set_generator_states`; outside, everything as before.
States are plain data and tensors: they can stand in a checkpoint that is read without unpickling code.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

LARGEST_SEED = 2**32 - 1  # what numpy takes


def seed_generators(seed: int) -> None:
    """Seed every global generator. Call it inside `generators_kept`.

    ValueError unless 0 <= seed <= 2**32 - 1."""
    if not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f"seed {seed}: wanted a whole number from 0 to {LARGEST_SEED}")
    torch.manual_seed(seed)
    random.seed(seed)
    if numpy := _numpy():
        numpy.random.seed(seed)


def generator_states() -> dict[str, Any]:
    """The state of every global generator, as tensors and plain data: `torch`, `cuda` (a list, one a device), `python`, `numpy`."""
    states: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": None,
    }
    if numpy := _numpy():
        kind, keys, position, has_gauss, cached = numpy.random.get_state()
        states["numpy"] = (kind, keys.tolist(), int(position), int(has_gauss), float(cached))
    return states


def set_generator_states(states: Mapping[str, Any]) -> None:
    """Put the global generators where `generator_states` found them.

    ValueError if the states are those of another number of CUDA devices: the draws could not be the same."""
    n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if len(states["cuda"]) != n_devices:
        raise ValueError(
            f"generator states of {len(states['cuda'])} CUDA devices cannot be set on a machine with {n_devices}; "
            f"show the program as many (CUDA_VISIBLE_DEVICES), or start anew"
        )
    torch.set_rng_state(states["torch"])
    if n_devices:
        torch.cuda.set_rng_state_all(states["cuda"])
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    if states["numpy"] is not None and (numpy := _numpy()):
        numpy.random.set_state(tuple(states["numpy"]))


@contextmanager
def generators_kept() -> Iterator[None]:
    """Whatever is drawn or seeded inside, the global generators are afterwards as they were."""
    before = generator_states()
    try:
        yield
    finally:
        set_generator_states(before)


def _numpy() -> Any:
    """numpy if somebody has loaded it: a generator that nobody has imported cannot have been drawn from."""
    return sys.modules.get("numpy")
