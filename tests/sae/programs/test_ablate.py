"""Ablations: each condition against chance of its own shape, the decoder never turned round, no hole in the grid passed over."""

from functools import cache

import pytest
from tests.sae.programs.planted_rows import SETTINGS, TOPK, D, M, rows
from tests.sae.programs.test_arms import breaks_for

from trialplate.metrics.random_directions import expected_max_cosine
from trialplate.sae.errors import CoderError, StudyError
from trialplate.sae.programs import arms
from trialplate.sae.programs.ablate import AblationOptions, ablation_summary, run_ablation
from trialplate.sae.programs.conditions import Similarity
from trialplate.sae.programs.results import plain

NARROW = 4  # fewer latents than channels


def options(**more):
    similarity = Similarity(statistic="mean_max_cosine", absolute=True)
    return AblationOptions(TOPK, SETTINGS, **{"ks": (1, 2), "d_saes": (NARROW, M), "similarity": similarity, **more})


@cache
def result():
    return run_ablation(options(), *rows())


def condition(axis, value):
    (key,) = [one["condition"] for one in result()["axes"][axis] if one["value"] == value]
    return result()["conditions"][key]


def test_a_decoder_of_fewer_latents_than_channels_is_not_transposed():
    found = condition("d_sae", NARROW)
    assert found["shape"] == [NARROW, D]
    # chance is that of 4 directions in 12 channels, not of 12 in 4
    chance = found["stability"]["chance"]["value"]
    assert chance == pytest.approx(expected_max_cosine(D, NARROW, absolute=True))
    assert chance < 0.5 < expected_max_cosine(NARROW, D, absolute=True)


def test_every_condition_says_what_it_is_and_what_it_shows():
    for value in (1, 2):
        found = condition("k", value)
        assert (found["k"], found["d_sae"], found["status"], found["seeds"]) == (value, M, "measured", [0, 1, 2])
        assert found["l0"]["value"] == pytest.approx(value, rel=0.05)
        assert found["ev"]["n"] == 3
        assert found["ev_definition"] == "about_mean"
        assert len(found["cells"]) == 3
    assert condition("k", 2)["ev"]["value"] > condition("k", 1)["ev"]["value"]


def test_where_the_axes_cross_there_is_one_condition():
    assert condition("k", 2)["key"] == condition("d_sae", M)["key"]
    assert len(result()["conditions"]) == 3
    assert len(result()["subject"]["coders"]) == 3


def test_the_summary_has_a_line_a_value():
    text = ablation_summary(result())
    assert f"| {NARROW} | {NARROW} x {D} |" in text
    assert text.count(f"| {M} x {D} |") == 3


def test_a_missing_seed_makes_its_condition_missing(monkeypatch):
    monkeypatch.setattr(arms, "train", breaks_for(1))
    found = run_ablation(options(ks=(), d_saes=(M,)), *rows())
    (record,) = found["conditions"].values()
    assert (record["status"], record["missing"], found["n_missing"]) == (
        "missing", {"1": "seed 1: the loss is nan"}, 1,
    )  # fmt: skip
    assert "stability" not in record
    assert "missing: seed 1, seed 1: the loss is nan" in ablation_summary(found)


def test_a_k_above_the_width_is_not_clamped():
    with pytest.raises(CoderError, match="k between 1 and d_sae"):
        run_ablation(options(ks=(M + 1,)), *rows())


@pytest.mark.parametrize(
    "more", [{"ks": (), "d_saes": ()}, {"ks": (2, 2)}, {"seeds": (1, 2)}, {"coder": TOPK.with_(architecture="relu", k=None)}]
)  # fmt: skip
def test_options_that_answer_nothing_are_refused(more):
    with pytest.raises(StudyError):
        AblationOptions(**{"coder": TOPK, "settings": SETTINGS, "ks": (1, 2), **more})


def test_options_and_result_are_plain():
    assert plain(options())["ks"] == [1, 2]
    assert plain(result()) == result()
