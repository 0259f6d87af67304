"""What the tests of dynamic-k share."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def slow():
    """The slow obvious form, from building_blocks/."""
    file = Path(__file__).parents[2] / "building_blocks" / "dynamic_k_slow.py"
    spec = importlib.util.spec_from_file_location("dynamic_k_slow", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
