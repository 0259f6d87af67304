"""Pulled coders: what members of one family share counts for nothing, what families share that have no reference in common does."""

import math
from functools import cache

import pytest
import torch
from tests.sae.programs.planted_rows import SETTINGS, TOPK, rows
from tests.sae.programs.test_arms import breaks_for

from trialplate.metrics.decoder_similarity import matched_cosine
from trialplate.metrics.estimate import Estimate
from trialplate.sae.errors import StudyError
from trialplate.sae.formats.identity import coder_digest
from trialplate.sae.programs import arms
from trialplate.sae.programs.assign import (
    AssignmentOptions,
    Family,
    Strength,
    assignment_summary,
    choose,
    run_assignment,
)
from trialplate.sae.programs.families import Pulls
from trialplate.sae.programs.pull import Pull, slope
from trialplate.sae.programs.results import plain
from trialplate.sae.training import train

SHORT = SETTINGS.with_(steps=36, lr=4e-2)
FAMILIES = (Family(0, (10, 11)), Family(1, (20, 21)), Family(2, (30, 31)))


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("absolute", [True, False])
def test_the_slope_of_the_pull_is_autograds(absolute):
    reference = drawn(6, 4, seed=1)
    matched = reference / reference.norm(dim=1, keepdim=True)
    dictionary = drawn(6, 4).requires_grad_()
    cosine = torch.cosine_similarity(dictionary, matched)
    (1 - (cosine.abs() if absolute else cosine).mean()).backward()
    torch.testing.assert_close(slope(dictionary.detach(), matched, absolute), dictionary.grad, rtol=1e-10, atol=1e-12)


def test_a_reference_in_another_order_is_matched():
    rows_ = drawn(6, 8)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    pull = Pull(rows_[order], strength=1.0)
    unit = rows_ / rows_.norm(dim=1, keepdim=True)
    torch.testing.assert_close(pull.matched(rows_).double(), unit, rtol=1e-6, atol=1e-6)
    assert pull.alignment(rows_) == pytest.approx(1)
    assert Pull(-rows_[order], 1.0).alignment(rows_) == pytest.approx(1)
    assert Pull(-rows_[order], 1.0, absolute=False).alignment(rows_) < 0.7


def test_a_decoder_of_another_shape_is_not_transposed():
    with pytest.raises(StudyError, match=r"a decoder \[4, 6\] cannot be matched one to one with a reference \[6, 4\]"):
        Pull(drawn(6, 4), 1.0).matched(drawn(4, 6))


@pytest.mark.parametrize("bad", [{"strength": -1.0}, {"strength": math.inf}, {"strength": 1.0, "refresh": 0}])
def test_pulls_that_cannot_be_are_refused(bad):
    with pytest.raises(StudyError, match="wanted a strength"):
        Pull(drawn(6, 4), **bad)


def test_a_pull_of_strength_0_is_training_as_it_was():
    settings = SHORT.with_(steps=5)
    reference = train([(TOPK, settings.with_(init_seed=9))], *rows())[0].coder
    pull = Pull(reference.W_dec.detach(), 0.0)
    (with_hook,) = train([(TOPK, settings)], *rows(), prepare=pull.attach)
    (without,) = train([(TOPK, settings)], *rows())
    assert torch.equal(with_hook.coder.W_dec, without.coder.W_dec)


def options(**more):
    known = {"lambdas": (0.0, 30.0), "families": FAMILIES, "ev_floor": 0.3}
    return AssignmentOptions(TOPK, SHORT, **{**known, **more})


@cache
def result():
    return run_assignment(options(), *rows())


@cache
def references():
    plans = [(TOPK, SHORT.with_(init_seed=family.reference)) for family in FAMILIES]
    return [one.coder.W_dec for one in train(plans, *rows())]


def test_copies_of_a_reference_are_not_stable():
    """A strong pull makes members of a family nearly one coder. Families stay as far apart as their references, which never saw each other."""
    free, pulled = result()["strengths"]
    assert pulled["within_families"]["value"] > 0.98
    assert pulled["alignment"]["value"] > 0.98
    one, two, three = references()
    true_level = [matched_cosine(a, b, absolute=True) for a, b in ((one, two), (one, three), (two, three))]
    assert pulled["between_families"]["pairs"] == pytest.approx(true_level, abs=0.1)  # one or two latents are silent
    assert pulled["between_families"]["raw"]["value"] < 0.85
    assert free["within_families"]["value"] < 0.9
    assert not pulled["gain"]["ci"][0] > 0
    assert result()["status"] == "none_accepted"
    assert result()["best_lambda"] is None
    assert "(shares a reference)" in assignment_summary(result())
    assert "matched_cosine of decoders, opposite directions count as the same" in assignment_summary(result())


def test_a_column_without_entries_is_left_out():
    alone = {**result(), "strengths": [{**one, "within_families": None} for one in result()["strengths"]]}
    assert "| within families |" in assignment_summary(result())
    assert "| within families |" not in assignment_summary(alone)


def test_families_are_the_observations():
    for one in result()["strengths"]:
        assert one["between_families"]["n_seeds"] == 3
        assert len(one["between_families"]["pairs"]) == 3
        assert one["ev"]["n"] == 3


def test_references_and_members_are_named_apart():
    subject = result()["subject"]
    assert list(subject["references"]) == ["0", "1", "2"]
    assert list(subject["coders"]) == ["lambda 0", "lambda 30"]
    digests = [d for of in (subject["references"], *subject["coders"].values()) for d in of.values()]
    assert len(set(digests)) == 3 + 6 + 6


def test_members_at_lambda_0_are_coders_like_any_other():
    (alone,) = train([(TOPK, SHORT.with_(init_seed=10))], *rows())
    assert result()["subject"]["coders"]["lambda 0"]["10"] == coder_digest(alone.coder)


def test_a_coder_says_that_it_was_pulled():
    coder = train([(TOPK, SHORT.with_(steps=1))], *rows())[0].coder
    pulls = Pulls(dict.fromkeys((0, 1, 2), coder), 0.5, 20, True)
    found = pulls.arms(TOPK, SHORT, options().by_reference)
    assert [arm.coder.about["pulled"]["family"] for arm in found] == [0, 0, 1, 1, 2, 2]
    assert {arm.coder.about["pulled"]["reference"] for arm in found} == {coder_digest(coder)}
    assert len({arm.cell for arm in found}) == 6
    assert {arm.condition for arm in found}.isdisjoint(
        arm.condition for arm in Pulls(pulls.references, 0.0, 20, True).arms(TOPK, SHORT, options().by_reference)
    )


def estimate(value, low, high):
    return Estimate(value, 3, 0.01, (low, high))


def strength(value, gain=0.1, ev=0.8, drop=0.0):
    return Strength(
        value, estimate(gain, gain - 0.05, gain + 0.05), estimate(ev, ev - 0.02, ev + 0.02), estimate(drop, drop - 0.02, drop + 0.02)
    )  # fmt: skip


def test_the_largest_bound_of_the_gain_is_accepted():
    found = choose([strength(0.1), strength(0.2, gain=0.3), strength(0.4, gain=0.2)], ev_floor=0.5, max_ev_drop=0.05)
    assert (found.value, found.refused) == (0.2, {})


def test_stability_bought_with_reconstruction_is_refused():
    # explained variance of -2.6 at the strength of the best gain: below any floor, and a drop against lambda 0 too
    found = choose([strength(0.15, gain=0.9, ev=-2.6, drop=1.05)], ev_floor=0.5, max_ev_drop=0.05)
    assert found.value is None
    assert len(found.refused[0.15]) == 2
    # a baseline that is as bad hides nothing: the floor is absolute
    (reason,) = choose([strength(0.15, gain=0.9, ev=-2.6)], ev_floor=0.5, max_ev_drop=0.05).refused[0.15]
    assert reason == "explained variance is at least -2.62, and the floor is 0.5"


def test_a_gain_that_may_be_none_is_refused():
    found = choose([strength(0.1, gain=0.04)], ev_floor=0.5, max_ev_drop=0.05)
    assert found.refused[0.1] == ("between families the gain is at least -0.01, and more than 0 is wanted",)


def test_a_family_with_a_hole_is_an_error(monkeypatch):
    monkeypatch.setattr(arms, "train", breaks_for(1))
    with pytest.raises(StudyError, match="1 of 3 coders are missing, first that of seed 1"):
        run_assignment(options(), *rows())


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"families": FAMILIES[:2]}, "at least 3 families"),
        ({"families": (*FAMILIES, Family(3, (10, 41)))}, "a seed is in two places"),
        ({"families": (*FAMILIES, Family(3, (40,)))}, "equally many members"),
        ({"lambdas": (0.1, 0.2)}, "0 .the baseline."),
        ({"lambdas": (0.0,)}, "at least one above it"),
    ],
)
def test_options_that_answer_nothing_are_refused(more, text):
    with pytest.raises(StudyError, match=text):
        options(**more)


def test_options_and_result_are_plain():
    assert plain(options())["families"][0] == {"reference": 0, "members": [10, 11]}
    assert plain(result()) == result()
