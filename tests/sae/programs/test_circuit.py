"""A known circuit: controls first, copies are one coder, what was not looked at makes the result incomplete, and only coders that read it recover it."""

import math
from functools import cache

import numpy as np
import pytest
import torch

from trialplate.metrics.fourier import explained_by, fourier_basis
from trialplate.sae.coder import Coder
from trialplate.sae.config import CoderConfig
from trialplate.sae.programs import circuit as program
from trialplate.sae.programs.circuit import CircuitOptions, Given, circuit_summary, run_circuit
from trialplate.sae.programs.circuit_controls import ControlOptions, dictionary_control, fourier_control
from trialplate.tasks.planted_circuit import planted_circuit

N, D, F = 31, 16, 3
PASSED = {"passed": True, "share": 1.0, "f1": 1.0, "f1_of_random": 0.0}


@cache
def circuit():
    return planted_circuit(N, D, F, 50, np.random.default_rng(0))


def coder(rows):
    """A coder with these decoder rows."""
    made = Coder(CoderConfig("topk", d_in=rows.shape[1], d_sae=len(rows), k=2)).eval().requires_grad_(False)
    made.W_dec.copy_(torch.as_tensor(rows))
    return made


def reader(seed, per_plane=4):
    """Latents on all circles of the circuit, turned by the seed."""
    angle = 2 * math.pi * (np.arange(per_plane) + seed / 10) / per_plane
    around = np.stack([np.cos(angle), np.sin(angle)], 1)
    return coder(np.concatenate([around @ plane for plane in circuit().planes]))


def stranger(seed):
    return coder(np.random.default_rng(seed).normal(size=(12, D)))


@pytest.fixture
def controlled(monkeypatch):
    """Controls that pass, so that a test of something else is quick."""
    monkeypatch.setattr(program, "fourier_control", lambda options: PASSED)
    monkeypatch.setattr(program, "dictionary_control", lambda options: PASSED)


OPTIONS = CircuitOptions(n_frequencies=F, draws=40)


def named(*coders):
    return {f"c{i}": one for i, one in enumerate(coders)}


def test_coders_that_read_the_circles_recover_the_circuit(controlled):
    result = run_circuit(OPTIONS, circuit().embedding, Given(named(*(reader(s) for s in (1, 2, 3)))))
    assert (result["status"], result["why"]) == ("recovered", [])
    assert result["embedding"]["frequencies"] == circuit().frequencies.tolist()
    assert result["recall"]["value"] == 1.0
    assert result["chance"] == pytest.approx(2 * F / D)
    assert result["overlap"]["value"] == pytest.approx(1 - 2 * F / D, abs=1e-3)
    assert result["recall_of_random"] < 0.1
    assert len(set(result["subject"]["coders"].values())) == 3
    assert "**recovered**" in circuit_summary(result)


def test_random_coders_recover_nothing(controlled):
    result = run_circuit(OPTIONS, circuit().embedding, Given(named(*(stranger(s) for s in range(5)))))
    assert result["status"] == "not recovered"
    assert abs(result["overlap"]["value"]) < 0.1
    assert result["recall"]["value"] == 0.0
    assert any("recall of planes" in why for why in result["why"])


def test_an_embedding_without_frequencies_holds_no_circuit(controlled):
    noise = np.random.default_rng(3).normal(size=(N, D))
    result = run_circuit(OPTIONS, noise, Given(named(*(reader(s) for s in (1, 2, 3)))))
    assert result["status"] == "not recovered"
    assert result["embedding"]["above_null"] < 0.1


def test_copies_of_a_coder_count_once(controlled):
    """The defect: an interval had one reference decoder five times among its twenty."""
    result = run_circuit(
        OPTIONS, circuit().embedding, Given(named(reader(1), reader(1), reader(2), reader(3), reader(1)))
    )
    assert (result["n_given"], result["n_evaluated"]) == (5, 3)
    assert result["copies"] == {"c1": "c0", "c4": "c0"}
    assert result["overlap"]["n"] == 3


def test_three_names_of_two_coders_are_incomplete(controlled):
    result = run_circuit(OPTIONS, circuit().embedding, Given(named(reader(1), reader(2), reader(2))))
    assert result["status"] == "incomplete"
    assert result["why"] == ["2 different coders, wanted at least 3"]


def test_what_could_not_be_read_makes_the_result_incomplete(controlled):
    """The defect: checkpoints that could not be decoded were skipped and counted; the gate did not look."""
    good = named(*(reader(s) for s in (1, 2, 3)))
    unread = run_circuit(OPTIONS, circuit().embedding, Given(good, {"lost": "no such file"}))
    assert (unread["status"], unread["why"]) == ("incomplete", ["lost was not looked at: no such file"])
    other = run_circuit(OPTIONS, circuit().embedding, Given({**good, "wide": coder(np.eye(20))}))
    assert other["status"] == "incomplete"
    assert other["unread"] == {"wide": "it writes 20 channels, and the embedding has 16"}
    assert other["n_given"] == 4
    assert "not looked at: wide" in circuit_summary(other)


def test_no_coders_at_all_are_incomplete(controlled):
    result = run_circuit(OPTIONS, circuit().embedding, Given({}))
    assert (result["status"], result["overlap"]) == ("incomplete", None)
    circuit_summary(result)


def test_failed_controls_judge_nobody(monkeypatch):
    """A formula that gives 0 for a perfect circuit says nothing of a model."""
    monkeypatch.setattr(program, "fourier_control", lambda options: {**PASSED, "passed": False})
    monkeypatch.setattr(program, "dictionary_control", lambda options: PASSED)
    result = run_circuit(OPTIONS, circuit().embedding, Given(named(*(reader(s) for s in (1, 2, 3)))))
    assert (result["status"], result["why"]) == ("control failed", ["the fourier control failed"])


def test_the_fourier_control_finds_what_was_planted_and_nothing_in_noise():
    found = fourier_control(ControlOptions())
    assert found["passed"]
    assert found["share"] > 0.99
    assert found["found_frequencies"].tolist() == found["planted_frequencies"].tolist()
    assert found["share_of_random"] == pytest.approx(found["null_of_random"], abs=0.05)
    drowned = fourier_control(ControlOptions(least_share=0.9999))
    assert not drowned["passed"]


def test_conjugate_frequencies_do_not_cancel():
    """With columns of k and n - k the share is 0 for this embedding; here neither name is taken for another frequency."""
    made = planted_circuit(113, 16, 2, 1, np.random.default_rng(1), noise=0.0)
    assert explained_by(made.embedding, fourier_basis(113, made.frequencies)) == pytest.approx(1, abs=1e-6)
    with pytest.raises(ValueError, match="is 113 - k again"):
        fourier_basis(113, [int(made.frequencies[0]), 113 - int(made.frequencies[0])])


def test_the_dictionary_control_finds_the_planted_features():
    found = dictionary_control(ControlOptions())
    assert found["passed"]
    assert found["f1"] >= 0.9
    assert (found["f1_of_truth"], found["f1_of_random"]) == (1.0, 0.0)
    assert not dictionary_control(ControlOptions(steps=1))["passed"]
