"""Randomness has one door: a case's generators come from the run's seed and its id, and it leaves no trace in the global ones."""

# ruff: noqa: NPY002  (the global generators are what this is about)

import random
import sys

import numpy as np
import pytest
import torch

from trialplate.plugin import isolation
from trialplate.plugin.cases import case_seed

DRAWS = """
import random
import numpy as np
import pytest
import torch

@pytest.mark.parametrize("k", [1, 2])
def test_a(record, rng, seed, k):
    draws = {"python": random.random(), "numpy": np.random.random(), "torch": torch.rand(1).item(), "rng": rng.random(), "seed": seed}
    for name, value in draws.items():
        record("loss", value, n=1, k=k, generator=name)
"""


def draws(suite, *args):
    suite.run("evals/test_probe.py", *args)
    return {(m.params["generator"], m.params["k"]): m.value for m in suite.report().measurements}


@pytest.fixture
def drawing(suite):
    suite.standard().write("evals/test_probe.py", DRAWS)
    return suite


def test_a_case_draws_the_same_in_any_order_and_company(drawing):
    both = draws(drawing)
    alone = draws(drawing, "-k", "2")
    assert alone == {key: value for key, value in both.items() if key[1] == 2}
    assert both == draws(drawing)
    names = {name for name, _ in both}
    assert len(names) == 5
    assert all(both[name, 1] != both[name, 2] for name in names)


def test_another_seed_is_another_draw_and_zero_can_be_asked_for(drawing):
    default = draws(drawing)
    assert not set(draws(drawing, "--trialplate-seed=1").values()) & set(default.values())
    drawing.write("pytest.ini", "[pytest]\ntrialplate_evals = evals\ntrialplate_seed = 1\n")
    assert not set(draws(drawing).values()) & set(default.values())
    assert draws(drawing, "--trialplate-seed=0") == default


def test_the_global_generators_are_as_they_were(drawing):
    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = states()
    drawing.run()
    assert states() == before


def test_a_library_that_a_fixture_imports_is_seeded_too(monkeypatch):
    """Its generator was not there when the case began."""
    monkeypatch.setattr(isolation.cases, "case_id", lambda nodeid, config: nodeid)
    monkeypatch.setattr(isolation.options, "value", lambda config, name: {"seed": 0, "threads": 1}[name])
    numpy_itself, before = sys.modules["numpy"], np.random.get_state()[1].tolist()
    monkeypatch.delitem(sys.modules, "numpy")
    case = isolation.Isolation(None, "a")
    monkeypatch.setitem(sys.modules, "numpy", numpy_itself)
    assert np.random.get_state()[1].tolist() == before
    case.seed()
    late = np.random.random()
    case.restore()
    assert np.random.get_state()[1].tolist() == before
    case = isolation.Isolation(None, "a")
    assert np.random.random() == late
    case.restore()


def test_the_generators_of_a_gpu_that_is_in_use_are_seeded_and_restored(monkeypatch):
    calls = []
    fake = type("cuda", (), {
        "is_initialized": staticmethod(lambda: True), "get_rng_state_all": staticmethod(lambda: ["state"]),
        "manual_seed_all": staticmethod(lambda seed: calls.append(seed)), "set_rng_state_all": staticmethod(calls.append),
    })  # fmt: skip
    monkeypatch.setattr(torch, "cuda", fake)
    restore = isolation._cuda(7)
    restore()
    assert calls == [7, ["state"]]


def test_the_seed_of_a_case_is_its_own():
    seeds = {case_seed(run, case) for run in range(3) for case in ("a", "b")}
    assert len(seeds) == 6
    assert all(0 <= s < 2**63 for s in seeds)
    assert case_seed(0, "a") == case_seed(0, "a")


def test_every_case_computes_with_as_many_threads_as_the_run_says(suite):
    suite.standard().write(
        "evals/test_probe.py", "import torch\ndef test_a(record):\n    record('loss', torch.get_num_threads(), n=1)\n"
    )
    before = torch.get_num_threads()
    for n in (1, 2):
        suite.run("evals", f"--trialplate-threads={n}")
        assert [m.value for m in suite.report().measurements] == [n]
        assert torch.get_num_threads() == before
