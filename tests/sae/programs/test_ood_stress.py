"""A shift of texts: the baseline has the same texts, drops are paired, and a probe that knows nothing does not pass by dropping nothing."""

import numpy as np
import pytest
import torch

from trialplate.activations.capture import captured
from trialplate.activations.sites import resolve
from trialplate.metrics.statistics import paired_difference
from trialplate.models.load import load
from trialplate.models.spec import ModelSpec
from trialplate.sae.coder import Coder, initialise
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import StudyError
from trialplate.sae.programs.ood_stress import Features, OodOptions, ood_summary, run_ood_stress, shift_features
from trialplate.sae.programs.results import plain
from trialplate.sae.random_twin import random_twin
from trialplate.tasks.shifted_texts import ShiftedTexts, Text, shifted_texts


def texts(n, first=0, word=""):
    """n texts, every other one of class 1, two of a group."""
    return tuple(Text(f"text {first + i}{word}", i % 2, f"g{(first + i) // 2}") for i in range(n))


def shift(paired=True, n_test=20):
    parts = texts(40), texts(20, 40), texts(n_test, 60), texts(n_test, 60, " moved")
    return ShiftedTexts("s", "is it odd?", "plain", "moved", *parts, paired)


def features(found, wrong_source=(), wrong_target=(), width=6, informative=0):
    """One column that tells the class (with some test texts the wrong way round) among noise."""
    rng = np.random.default_rng(0)
    made = []
    for part, wrong in (
        (found.train, ()),
        (found.valid, ()),
        (found.source, wrong_source),
        (found.target, wrong_target),
    ):
        rows = rng.normal(size=(len(part), width)) * 0.01
        rows[:, informative] = [(2 * t.label - 1) * (-1 if i in wrong else 1) for i, t in enumerate(part)]
        made.append(rows)
    return Features(*made)


def knows_nothing(found):
    rng = np.random.default_rng(1)
    return Features(
        *(rng.normal(size=(len(part), 6)) for part in (found.train, found.valid, found.source, found.target))
    )


def test_drops_are_those_of_the_right_and_wrong_texts():
    """20 test texts: the coder is wrong about none and then about 4, the raw activations about 1 (the 3rd) and then about 3 (the 3rd to 5th)."""
    found = shift()
    arms = {
        "coder": features(found, (), (0, 1, 2, 3)),
        "raw": features(found, (2,), (2, 3, 4)),
        "random": knows_nothing(found),
    }
    result = run_ood_stress(OodOptions(ks=(1,)), found, arms)
    assert result["drop"]["value"] == pytest.approx(4 / 20)
    assert result["arms"]["raw"]["drop"]["value"] == pytest.approx(2 / 20)
    assert result["excess_drop"]["value"] == pytest.approx(4 / 20 - 2 / 20)
    assert tuple(result["arms"]["coder"][part]["value"] for part in ("source", "target")) == (1.0, 0.8)
    hits = np.ones(20), np.array([0] * 4 + [1] * 16)
    assert result["drop"] == plain(paired_difference(*hits, clusters=[t.group for t in found.source]))
    assert "0.200" in ood_summary(result)
    beyond = result["beyond_random_target"]["value"]
    assert "Accuracy beyond that of a random coder of the same shape and L0: source" in ood_summary(result)
    assert f"target {beyond:.3f} [" in ood_summary(result)


def test_the_baseline_is_measured_on_the_same_texts():
    """The defect: a baseline was pooled over whatever files lay in a cache, which moved the drop by 0.015."""
    found = shift()
    short = features(found)._replace(target=features(found).target[:-1])
    with pytest.raises(StudyError, match="features 'raw' of target: wanted a row for each of 20 texts, got 19"):
        run_ood_stress(OodOptions(), found, {"coder": features(found), "raw": short, "random": knows_nothing(found)})


def test_a_probe_that_knows_nothing_does_not_pass_by_dropping_nothing():
    """The defect: a gate on the drop alone was met by a bad coder: what is at chance in both halves drops by nothing."""
    found = shift(n_test=200)
    arms = {"coder": knows_nothing(found), "raw": features(found), "random": knows_nothing(found)}
    result = run_ood_stress(OodOptions(), found, arms)
    assert abs(result["drop"]["value"]) < 0.15
    assert not result["floors_met"]
    good = run_ood_stress(OodOptions(), found, {**arms, "coder": features(found)})
    assert good["floors_met"]
    assert good["beyond_random_target"]["ci"][0] > 0.3


def test_a_floor_is_met_by_the_lower_end_of_the_interval():
    """16 of 20 is 0.8, and its interval reaches below 0.6."""
    found = shift()
    arms = {"coder": features(found, (), (0, 1, 2, 3)), "raw": features(found), "random": knows_nothing(found)}
    floors = run_ood_stress(OodOptions(floor_target=0.75), found, arms)["floors"]
    assert floors["target"]["low"] < 0.75 < 0.8
    assert (floors["source"]["met"], floors["target"]["met"]) == (True, False)


@pytest.mark.parametrize("arm", ["raw", "random"])
def test_no_drop_without_its_baseline_and_its_control(arm):
    found = shift()
    arms = {"coder": features(found), "raw": features(found), "random": knows_nothing(found)}
    del arms[arm]
    with pytest.raises(StudyError, match=f"no features of {arm}"):
        run_ood_stress(OodOptions(), found, arms)


def test_texts_that_are_not_paired_have_a_wider_interval():
    """The same hits: within pairs the differences are -1 or 0, between two sets of texts both spreads add."""
    arms = {"coder": features(shift(), (0, 1, 2, 3), (0, 1, 2, 3, 4)), "raw": features(shift()), "random": knows_nothing(shift())}  # fmt: skip
    paired, unpaired = (run_ood_stress(OodOptions(ks=(1,)), shift(p), arms)["drop"] for p in (True, False))
    assert (paired["value"], unpaired["value"]) == pytest.approx((1 / 20, 1 / 20))
    assert unpaired["stderr"] > 2 * paired["stderr"]
    assert "t with 9" in unpaired["method"]  # ten groups of two


def test_k_is_chosen_on_validation_texts_of_the_source():
    found = shift()
    arms = {"coder": features(found), "raw": features(found), "random": knows_nothing(found)}
    result = run_ood_stress(OodOptions(ks=(1, 2, 5)), found, arms)
    assert result["arms"]["coder"]["k"] == 1  # the smallest of those that are right about all
    assert result["arms"]["dense"]["k"] == 6


@pytest.mark.parametrize("floors", [(0.4, 0.6), (0.6, 1.2), (float("nan"), 0.6)])
def test_floors_are_between_chance_and_one(floors):
    with pytest.raises(StudyError, match=r"between chance 0\.5 and 1"):
        OodOptions(floor_source=floors[0], floor_target=floors[1])


def test_features_come_from_one_pass_over_the_texts_of_the_shift():
    """On the embedded model: the attractor shift, whose number every layer knows."""
    model = load(ModelSpec("embedded:neox-tiny"))
    point = resolve(model, "L2.resid_post")
    texts = shifted_texts("attractor", 16, 0)
    x = torch.randn(64, model.d_model, generator=torch.Generator().manual_seed(0))
    coder = initialise(
        Coder(CoderConfig("topk", d_in=model.d_model, d_sae=32, k=4)), torch.Generator().manual_seed(1)
    ).eval()
    features = shift_features(model, point, coder, texts, random_twin(coder, x, torch.Generator().manual_seed(2)))
    assert {name: [part.shape for part in found] for name, found in features.items()} == {
        "raw": [(16, 128), (8, 128), (8, 128), (8, 128)],
        "coder": [(16, 32), (8, 32), (8, 32), (8, 32)],
        "random": [(16, 32), (8, 32), (8, 32), (8, 32)],
    }
    text = texts.target[3].text
    ids = torch.tensor([model.tokenizer.encode(text)])
    values = captured(model, ids, [point])[point.name][0]
    assert features["raw"].target[3] == pytest.approx(values.mean(0).numpy(), abs=1e-5)
    with torch.no_grad():
        assert features["coder"].target[3] == pytest.approx(coder.encode(values).dense().mean(0).numpy(), abs=1e-5)
