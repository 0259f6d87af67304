"""Comparison with the projects themselves. They live in environments of their own (scripts/install_sae_peers.sh), and importing one takes ten seconds:
these tests are collected only where this folder is asked for, `pytest tests/sae_peers`."""

import os
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
DIFFERENCES = pytest.StashKey[dict[str, dict[str, float]]]()
ROOT = Path(os.environ.get("SAE_PEERS", HERE.parents[1] / "build" / "sae-peers"))


def pytest_ignore_collect(collection_path, config):
    asked = [Path(config.invocation_params.dir, str(arg).partition("::")[0]).resolve() for arg in config.args]
    return None if any(path == HERE or HERE in path.parents for path in asked) else True


@pytest.fixture(scope="session")
def drive(tmp_path_factory):
    """Runs `drive_<name>.py FOLDER` with the Python of a peer; FOLDER holds what the test put there, and then what the peer did."""

    def run(name, folder):
        python = ROOT / name / "bin" / "python"
        if not python.exists():
            pytest.skip(f"{name} is not installed in {ROOT}: scripts/install_sae_peers.sh {name}")
        done = subprocess.run(
            [python, HERE / f"drive_{name}.py", folder],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""},
        )
        assert done.returncode == 0, done.stderr[-4000:]

    return run


@pytest.fixture
def measured(request):
    """Remembers the largest differences; they are shown at the end, one line a comparison."""
    found = request.config.stash.setdefault(DIFFERENCES, {})
    return lambda what, off: found.setdefault(request.node.name, {}).__setitem__(what, off)


def pytest_terminal_summary(terminalreporter, config):
    for name, offs in config.stash.get(DIFFERENCES, {}).items():
        terminalreporter.write_line(f"{name}: " + ", ".join(f"{what} {off:.1e}" for what, off in offs.items()))
