"""A case neither sees nor leaves traces in the global random generators: they are seeded from its id and restored after it."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from trialplate.plugin import cases, options


@contextmanager
def seeded(config: pytest.Config, nodeid: str) -> Iterator[None]:
    """Seed the generators of Python, and of numpy and torch where they are imported, for one case."""
    seed = cases.case_seed(options.value(config, "seed"), cases.case_id(nodeid, config)) % 2**32
    numpy, torch = _loaded("numpy", "random"), _loaded("torch", "random")
    python_state = random.getstate()
    numpy_state = numpy.random.get_state() if numpy else None
    torch_state = torch.get_rng_state() if torch else None
    random.seed(seed)
    if numpy:
        numpy.random.seed(seed)
    if torch:
        torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(python_state)
        if numpy:
            numpy.random.set_state(numpy_state)
        if torch:
            torch.set_rng_state(torch_state)


def _loaded(name: str, part: str) -> Any:
    """A module that is imported already and completely; importing it for its generator would make every run heavy."""
    module = sys.modules.get(name)
    return module if module is not None and hasattr(module, part) else None
