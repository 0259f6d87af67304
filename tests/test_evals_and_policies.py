"""What the folders of evals and policies promise: budgets are stated, bounds of published values are the published ones, names are known."""

import ast
import re
from pathlib import Path

import pytest

from trialplate.gates.policy import load_policies
from trialplate.report.catalogue import METRICS
from trialplate.tasks.published import load_published

ROOT = Path(__file__).parents[1]
EVALS = sorted((ROOT / "evals").rglob("test_*.py"))
POLICIES = {p.name: p for p in load_policies([ROOT / "evals" / "policies"])}


@pytest.mark.parametrize("path", EVALS, ids=lambda p: p.stem)
def test_an_eval_file_says_its_purpose_and_budget(path):
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert re.search(r"Budget: [\d.]+ CPU second", text)


@pytest.mark.parametrize("path", EVALS, ids=lambda p: p.stem)
def test_an_eval_records_metrics_of_the_catalogue_and_never_decides_devices(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    called = [
        n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") in ("record", "measure")
    ]
    names = {n.args[0].value for n in called if isinstance(n.args[0], ast.Constant)}
    assert names <= set(METRICS)
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.Try)]


def test_all_budgets_together_are_under_three_and_a_half_minutes_of_one_core():
    budgets = re.findall(r"Budget: ([\d.]+) CPU second", "".join(p.read_text(encoding="utf-8") for p in EVALS))
    assert sum(map(float, budgets)) < 210


def test_the_pythia_bounds_are_the_published_values_with_their_drift():
    published = load_published(ROOT / "golden" / "published.json")
    checked = 0
    for gate in POLICIES["pythia"].gates:
        if gate.metric in ("acc", "acc_norm", "perplexity"):
            low, high = published.bounds(gate.models[0], gate.where["task"], gate.metric)
            assert (gate.min, gate.max) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
            checked += 1
    assert checked >= 12


def test_the_pythia_pins_have_the_published_tolerance():
    published = load_published(ROOT / "golden" / "published.json")
    gates = {g.name: g for g in POLICIES["pythia"].gates}
    (loss,) = published.pins_of("pythia-70m", "loss")
    assert gates["hello-world-loss"].min == pytest.approx(loss.values[0] - loss.tolerance)
    assert gates["hello-world-loss"].max == pytest.approx(loss.values[0] + loss.tolerance)
    (rolling,) = published.pins_of("pythia-70m", "rolling")
    assert gates["wikitext2-rolling"].max == rolling.tolerance
    (choices,) = published.pins_of("pythia-70m", "choices")
    assert gates["arc-easy-loglikelihoods"].max == choices.tolerance


def test_what_the_embedded_model_cannot_do_is_measured_and_not_gated():
    tasks = {g.where.get("task") for g in POLICIES["embedded"].gates}
    assert not tasks & {"arithmetic_99", "fixed_text", "induction_any"}
    assert tasks >= {
        "ioi",
        "induction_words",
        "greater_than",
        "arithmetic_20",
        "capitals",
        "capitals_held_out",
        "agreement",
    }


def test_every_gate_says_why():
    assert all(g.why for p in POLICIES.values() for g in p.gates)
