"""Trained coders against coders that learned nothing: equal shapes, the gain itself, and an effect that is large enough to mean something."""

from functools import cache

import numpy as np
import pytest
import torch
from tests.sae.programs.planted_rows import SETTINGS, TOPK, D, M, noise, rows

from trialplate.metrics.decoder_similarity import matched_cosine
from trialplate.metrics.estimate import Estimate
from trialplate.sae.coder import Coder, initialise
from trialplate.sae.errors import StudyError
from trialplate.sae.evaluate import core_scores
from trialplate.sae.formats.identity import coder_digest
from trialplate.sae.programs.conditions import Similarity
from trialplate.sae.programs.control import (
    ControlOptions,
    check_alike,
    check_training,
    compare_with_controls,
    conclude,
    concluded,
    control_summary,
    given_coders,
    run_control,
)
from trialplate.sae.programs.results import plain
from trialplate.sae.training import train

SEEDS = (1, 2, 3, 4)
SHORT = SETTINGS.with_(steps=3)


def options(**more):
    return ControlOptions(TOPK, SETTINGS, **{"seeds": SEEDS, **more})


@cache
def trained():
    return {seed: train([(TOPK, SETTINGS.with_(init_seed=seed))], *rows())[0].coder for seed in SEEDS}


@cache
def result():
    return run_control(options(), *rows(), twin=noise())


@cache
def alive():
    """Latents of each trained coder that fire on held-out rows: the only ones that are compared."""
    return {seed: core_scores(coder, rows()[1]).firing.alive for seed, coder in trained().items()}


def pairs_of(decoders):
    """Matched cosines of all pairs, (0, 1), (0, 2) ..., of the latents that fire in the trained ones."""
    kept = [rows[mask] for rows, mask in zip(decoders, alive().values(), strict=True)]
    return [matched_cosine(a, b) for i, a in enumerate(kept) for b in kept[i + 1 :]]


def estimate(value, low):
    return Estimate(value, 5, 0.1, (low, 2 * value - low))


def test_coders_that_found_the_planted_features_show_a_signal():
    found = result()
    assert found["conclusion"] == "training_signal"
    assert found["minimum_effect"]["reached"]
    assert found["shape"] == [M, D]
    assert found["gain"]["ci"][0] > 0
    assert found["comparison"]["difference"] > 0.1
    assert found["test"]["p_value"] == pytest.approx(1 / 70)  # the first of 8 choose 4 arrangements
    assert "**training_signal**" in control_summary(found)


def test_the_difference_is_that_of_the_pairs():
    found = result()
    pairs = pairs_of([coder.W_dec for coder in trained().values()])
    assert found["trained"]["pairs"] == pytest.approx(pairs)
    assert found["trained"]["mean"] == pytest.approx(np.mean(pairs))
    difference = np.mean(pairs) - np.mean(found["random"]["pairs"])
    assert found["comparison"]["difference"] == pytest.approx(difference)
    # one chance level for both arms: the adjusted gain is the raw one over 1 - s0
    chance = found["trained"]["chance"]["value"]
    assert found["random"]["chance"]["value"] == chance
    assert found["gain"]["value"] == pytest.approx(difference / (1 - chance))
    assert found["gain"]["n"] == 2 * len(SEEDS)  # seeds, not pairs


def test_the_untrained_arm_is_step_0_of_the_trained_one():
    first = [initialise(Coder(TOPK), torch.Generator().manual_seed(seed)).W_dec for seed in SEEDS]
    assert result()["untrained"]["pairs"] == pytest.approx(pairs_of(first))
    assert result()["gain_over_untrained"]["n"] == len(SEEDS)  # paired


def test_the_random_arm_is_not_what_chance_was_drawn_from():
    assert result()["random"]["raw"]["value"] != pytest.approx(result()["random"]["chance"]["value"], abs=1e-6)


def test_every_coder_is_named_by_its_digest():
    wanted = {str(seed): coder_digest(coder) for seed, coder in trained().items()}
    (found,) = result()["subject"]["coders"].values()
    assert found == wanted
    assert set(result()["subject"]["twin"]) == set(wanted)
    assert not set(result()["subject"]["twin"].values()) & set(wanted.values())
    assert result()["subject"]["rows"] == rows()[0].digest
    assert (result()["subject"]["model"], result()["subject"]["site_in"]) == ("planted", "L1.resid_post")


def test_coders_that_learned_nothing_show_no_signal():
    untrained = {s: initialise(Coder(TOPK), torch.Generator().manual_seed(s)).requires_grad_(False) for s in SEEDS}
    found = compare_with_controls(options(), given_coders(untrained, rows()[1]), *rows())
    assert found["conclusion"] == "no_training_signal"
    assert abs(found["trained"]["adjusted"]["value"]) < 0.2
    assert found["twin"] is None


def test_a_twin_that_is_as_stable_takes_the_claim_away():
    found = run_control(options(seeds=(1, 2, 3)), *rows(), twin=rows(features=9))
    assert found["gain"]["ci"][0] > 0
    assert found["gain_over_twin"]["ci"][0] < 0
    assert found["conclusion"] == "no_training_signal"


def test_significance_without_effect_size_is_no_signal():
    # 0.3000 against 0.2988 with intervals that exclude 0: significant, and 0.2 % of the way from chance to agreement
    gains = [estimate(0.0017, 0.0001), estimate(0.0017, 0.0001)]
    assert conclude(0.1, estimate(0.0017, 0.0001), gains) == "below_minimum_effect"
    assert conclude(0.001, estimate(0.0017, 0.0001), gains) == "training_signal"


def test_every_control_must_be_beaten_by_its_bound():
    good, doubtful = estimate(0.5, 0.3), estimate(0.5, -0.01)
    assert conclude(0.1, good, [good, good, good]) == "training_signal"
    for place in range(3):
        gains = [good, good, good]
        gains[place] = doubtful
        assert conclude(0.1, good, gains) == "no_training_signal"
    with pytest.raises(ValueError, match="without a control"):
        conclude(0.1, good, [])
    with pytest.raises(ValueError, match="no lower bound"):
        conclude(0.1, good, [Estimate(0.5, 1, None, None)])


def test_a_control_of_another_shape_controls_nothing():
    # a dictionary of 8 latents of 12 channels, its twin of 16: neither is transposed or cut to fit
    small = TOPK.with_(d_sae=8)
    coders = {s: train([(small, SETTINGS.with_(init_seed=s, steps=3))], *rows())[0].coder for s in (1, 2, 3)}
    narrow = given_coders(coders, rows()[1])
    wide = given_coders({s: trained()[s] for s in (1, 2, 3)}, rows()[1])
    with pytest.raises(StudyError, match=r"got decoders of \[\(8, 12\), \(16, 12\)\]"):
        compare_with_controls(options(), narrow, *rows(), twin=wide)
    assert compare_with_controls(options(), narrow, *rows())["shape"] == [8, 12]


def test_a_twin_has_the_seeds_of_what_it_controls():
    trained_, others = (
        given_coders(dict(list(trained().items())[part]), rows()[1]) for part in (slice(3), slice(1, 4))
    )
    with pytest.raises(StudyError, match=r"got \(2, 3, 4\) beside \(1, 2, 3\)"):
        compare_with_controls(options(), trained_, *rows(), twin=others)


def test_a_similarity_without_weights_has_no_form_by_frequency():
    similarity = Similarity(statistic="mutual_nearest")
    found = compare_with_controls(options(similarity=similarity), given_coders(trained(), rows()[1]), *rows())
    assert found["by_frequency"] is None
    assert result()["by_frequency"]["raw"]["value"] != result()["trained"]["raw"]["value"]


def test_given_coders_differ_by_seed_alone_and_are_not_silent():
    coders = dict(trained())
    other = initialise(Coder(TOPK.with_(k=3)), torch.Generator().manual_seed(0)).requires_grad_(False)
    with pytest.raises(StudyError, match="differ by seed alone"):
        given_coders({**coders, 9: other}, rows()[1])
    silent = Coder(TOPK).requires_grad_(False)
    with pytest.raises(StudyError, match="no latent of coder 9 fires"):
        given_coders({**coders, 9: silent}, rows()[1])
    with pytest.raises(StudyError, match="at least 3 coders"):
        given_coders({1: coders[1]}, rows()[1])


@pytest.mark.parametrize("more", [{"seeds": (1, 2)}, {"seeds": (1, 1, 2)}, {"minimum_effect": 0.0}])
def test_options_that_answer_nothing_are_refused(more):
    with pytest.raises(StudyError):
        options(**more)


def test_options_and_result_are_plain():
    assert plain(options())["coder"]["k"] == 2
    assert plain(result()) == result()


def said(**more):
    known = {"steps": 100, "batch_size": 64, "lr": 1e-3, "rows": "a" * 64, "init_seed": 0, "data_seed": 0}
    return {**known, **more}


def test_coders_that_were_begun_alike_are_not_two_seeds():
    with pytest.raises(StudyError, match="coders 0 and 2 were both begun with init_seed 0"):
        check_training([said(), said(init_seed=1), said(data_seed=5)])
    check_training([said(), said(init_seed=1), said(init_seed=2, data_seed=7)])


@pytest.mark.parametrize(
    ("more", "text"),
    [({"steps": 50}, "steps 100 and 50"), ({"lr": 1e-2}, r"lr 0\.001 and 0\.01"), ({"rows": "b" * 64}, "rows a{12} and b{12}")],
    ids=["steps", "lr", "rows"],
)  # fmt: skip
def test_coders_that_were_trained_otherwise_differ_by_more_than_a_seed(more, text):
    with pytest.raises(StudyError, match=f"coders 0 and 1 were trained with {text}"):
        check_training([said(), said(init_seed=1, **more), said(init_seed=2)])


def test_of_what_is_not_said_nothing_is_concluded():
    check_training([{}, {}, said()])
    check_training([{"steps": 100}, said(init_seed=1), {"init_seed": 2}])


def test_what_training_writes_of_seeds_is_read():
    coders = [train([(TOPK, SHORT)], *rows())[0].coder for _ in range(2)]
    with pytest.raises(StudyError, match="both begun with init_seed 0"):
        check_alike(coders)
    longer = train([(TOPK, SHORT.with_(init_seed=1, steps=4, lr=0.5))], *rows())[0].coder
    with pytest.raises(StudyError, match=r"steps 3 and 4, lr .* and 0\.5"):
        check_alike([coders[0], longer])


def test_the_control_that_was_not_beaten_is_named():
    gain = {"value": -0.044, "ci": [-0.1, 0.012]}
    found = {"conclusion": "no_training_signal", "gain": {"value": 0.3, "ci": [0.2, 0.4]}, "gain_over_untrained": None, "gain_over_twin": gain}  # fmt: skip
    assert (
        concluded(found) == "no training signal: coders of a random model are as stable (gain -0.044 [-0.100, 0.012])"
    )
    assert "random model may be as stable (gain 0.044" in concluded({**found, "gain_over_twin": {"value": 0.044, "ci": [-0.1, 0.2]}})  # fmt: skip
    small = {"conclusion": "below_minimum_effect", "minimum_effect": {"adjusted": 0.05, "wanted": 0.1}}
    assert (
        concluded(small)
        == "below the minimum effect: above every control, adjusted stability 0.050, and 0.1 is asked for"
    )
