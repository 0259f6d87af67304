"""A case neither sees nor leaves traces in the global random generators: they are seeded from its id and restored after it. It computes with
as many threads as the run says, whether it loads a model or not."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

import pytest

from trialplate.plugin import cases, options


class Isolation:
    """The generators of Python, and of numpy and torch where they are imported, for one case."""

    def __init__(self, config: pytest.Config, nodeid: str) -> None:
        self._seed = cases.case_seed(options.value(config, "seed"), cases.case_id(nodeid, config)) % 2**32
        self._threads = options.value(config, "threads")
        self._restore: dict[str, Callable[[], None]] = {}
        self.seed()

    def seed(self) -> None:
        """Seed what is there and was not there before: a fixture may have imported a library for the first time."""
        if "random" not in self._restore:
            state = random.getstate()
            self._restore["random"] = lambda: random.setstate(state)
            random.seed(self._seed)
        for name, take, value in (
            ("numpy", _numpy, self._seed),
            ("torch", _torch, self._seed),
            ("torch.cuda", _cuda, self._seed),
            ("threads", _threads, self._threads),
        ):
            if name not in self._restore and (restore := take(value)) is not None:
                self._restore[name] = restore

    def restore(self) -> None:
        """Put every generator back to where it was."""
        for restore in self._restore.values():
            restore()


def _numpy(seed: int) -> Callable[[], None] | None:
    numpy = _loaded("numpy", "random")
    if numpy is None:
        return None
    state = numpy.random.get_state()
    numpy.random.seed(seed)
    return lambda: numpy.random.set_state(state)


def _torch(seed: int) -> Callable[[], None] | None:
    torch = _loaded("torch", "default_generator")
    if torch is None:
        return None
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would queue a call for every accelerator too
    return lambda: torch.set_rng_state(state)


def _cuda(seed: int) -> Callable[[], None] | None:
    torch = _loaded("torch", "cuda")
    if torch is None or not torch.cuda.is_initialized():
        return None
    states = torch.cuda.get_rng_state_all()
    torch.cuda.manual_seed_all(seed)
    return lambda: torch.cuda.set_rng_state_all(states)


def _threads(n: int) -> Callable[[], None] | None:
    torch = _loaded("torch", "set_num_threads")
    if torch is None:
        return None
    before = torch.get_num_threads()
    if before != n:
        torch.set_num_threads(n)
    return lambda: None if torch.get_num_threads() == before else torch.set_num_threads(before)


def _loaded(name: str, part: str) -> Any:
    """A module that is imported already and completely; importing it for its generator would make every run heavy."""
    module = sys.modules.get(name)
    return module if module is not None and hasattr(module, part) else None
