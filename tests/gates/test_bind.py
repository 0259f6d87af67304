"""Policies go by their globs, on the label of a subject; a policy that was named judges every subject."""

import pytest

from trialplate.gates.bind import bind
from trialplate.gates.policy import Gate, Policy

pytestmark = pytest.mark.fast


def policy(name, models, *gates):
    gates = gates or (Gate(name="g", metric="accuracy", min=0.5),)
    return Policy(name=name, models=models, gates=list(gates), sha256="", path=f"{name}.toml")


def bound(policies, *labels, **more):
    pairs = [(f"{label}|cpu|float32", label) for label in labels]
    return [(b.subject.partition("|")[0], b.policy.name, b.gate.name) for b in bind(policies, pairs, **more)]


def test_a_glob_names_models():
    assert bound([policy("p", ["pythia-*", "gpt2"])], "pythia-70m", "gpt2", "gpt2-xl") == [
        ("gpt2", "p", "g"),
        ("pythia-70m", "p", "g"),
    ]


def test_a_name_does_not_mean_its_revisions_or_its_adapters():
    labels = "pythia-70m", "pythia-70m@step1000", "pythia-70m+lora", "pythia-70m-deduped"
    assert bound([policy("p", ["pythia-70m"])], *labels) == [("pythia-70m", "p", "g")]
    assert bound([policy("p", ["pythia-70m@step*"])], *labels) == [("pythia-70m@step1000", "p", "g")]


def test_globs_know_upper_and_lower_case():
    assert bound([policy("p", ["GPT2"])], "gpt2") == []


def test_a_gate_narrows_its_policy_and_cannot_widen_it():
    gates = Gate(name="a", metric="loss", max=3, models=["x"]), Gate(name="b", metric="loss", max=4, models=["*"])
    assert bound([policy("p", ["x", "y"], *gates)], "x", "y", "z") == [
        ("x", "p", "a"),
        ("x", "p", "b"),
        ("y", "p", "b"),
    ]


def test_a_policy_that_was_asked_for_by_name_judges_every_subject():
    gates = Gate(name="a", metric="loss", max=3, models=["x"]), Gate(name="b", metric="loss", max=4)
    assert bound([policy("p", ["x"], *gates)], "z", explicit=True) == [("z", "p", "a"), ("z", "p", "b")]


def test_every_device_and_dtype_is_a_subject_once():
    pairs = [("m|cuda|float32", "m"), ("m|cpu|float32", "m"), ("m|cpu|float32", "m")]
    assert [b.subject for b in bind([policy("p", ["m"])], pairs)] == ["m|cpu|float32", "m|cuda|float32"]


def test_the_order_is_that_of_subjects_then_policies_then_gates():
    policies = [policy("q", ["*"]), policy("p", ["*"])]
    expected = [("x", "q", "g"), ("x", "p", "g"), ("y", "q", "g"), ("y", "p", "g")]
    assert bound(policies, "y", "x") == expected
