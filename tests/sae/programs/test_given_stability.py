"""Stability of given coders: every similarity beside its chance, at least three of them, none twice."""

from functools import cache

import numpy as np
import pytest
import torch

from trialplate.metrics.decoder_similarity import matched_cosine
from trialplate.sae.coder import Coder
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import StudyError
from trialplate.sae.programs.given_stability import StabilityOptions, run_stability, stability_summary
from trialplate.sae.source import from_tensor
from trialplate.tasks.planted_dictionaries import planted

D, G = 24, 12


@cache
def truth():
    return planted("independent", G, D, 600, 2.0, np.random.default_rng(0), orthogonal=True)


def coder(seed, noise=0.05):
    """The planted dictionary in an order of its own, a little off; two latents that never fire."""
    rng = np.random.default_rng(seed)
    rows = truth().features[rng.permutation(G)] + noise * rng.normal(size=(G, D))
    rows = np.concatenate([rows, rng.normal(size=(2, D))])
    made = Coder(CoderConfig("topk", d_in=D, d_sae=G + 2, k=2)).eval().requires_grad_(False)
    made.W_dec.copy_(torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True)))
    made.encoder.copy_(made.W_dec)
    made.b_enc[-2:] = -100.0
    return made


def coders(n=3, **more):
    return {f"seed {i}": coder(i, **more) for i in range(n)}


def rows():
    return from_tensor(torch.from_numpy(truth().x), name="planted")


@cache
def measured():
    return run_stability(StabilityOptions(), coders(), rows())


def test_every_similarity_has_its_chance_and_is_above_it():
    statistics = measured()["statistics"]
    assert set(statistics) == {
        "matched_cosine", "mean_max_cosine", "mutual_nearest", "matched_cosine_all_latents", "matched_cosine_by_frequency",
        "shared_fraction", "function_correlation",
    }  # fmt: skip
    for name, one in statistics.items():
        assert one["n_seeds"] == 3, name
        assert one["adjusted"]["value"] > 0.5, name
        assert one["chance"]["value"] < 0.7, name
        assert len(one["pairs"]) == 3, name
    assert statistics["shared_fraction"]["raw"]["value"] == 1.0
    assert statistics["shared_fraction"]["chance"]["value"] == 0.0
    assert "| function_correlation |" in stability_summary(measured())


def test_latents_that_never_fire_are_left_out_and_shown_apart():
    statistics = measured()["statistics"]
    assert (
        statistics["matched_cosine"]["raw"]["value"] > statistics["matched_cosine_all_latents"]["raw"]["value"] + 0.05
    )
    (pair, *_) = statistics["matched_cosine"]["pairs"]
    both = [one.W_dec[:G] for one in coders(2).values()]
    assert pair == pytest.approx(matched_cosine(*both))


def test_without_rows_all_latents_count_and_nothing_is_said_of_functions():
    result = run_stability(StabilityOptions(), coders())
    assert set(result["statistics"]) == {"matched_cosine", "mean_max_cosine", "mutual_nearest"}
    assert (result["latents"], result["quality"]) == ("all", {})


def test_random_coders_are_at_chance():
    rng = np.random.default_rng(5)
    found = {}
    for i in range(3):
        made = coder(i)
        made.W_dec.copy_(torch.from_numpy(rng.normal(size=(G + 2, D))))
        found[str(i)] = made
    for name, one in run_stability(StabilityOptions(), found)["statistics"].items():
        assert abs(one["adjusted"]["value"]) < 0.15, name


def test_two_coders_are_not_enough_and_one_twice_is_no_third():
    with pytest.raises(StudyError, match="at least 3 coders, got 2"):
        run_stability(StabilityOptions(), coders(2))
    with pytest.raises(ValueError, match="same decoder"):
        run_stability(StabilityOptions(), {**coders(2), "again": coder(0)})


def test_coders_that_differ_by_more_than_a_seed_are_refused():
    other = Coder(CoderConfig("relu", d_in=D, d_sae=G + 2)).requires_grad_(False)
    other.W_dec.copy_(torch.randn(G + 2, D))
    for held_out in (rows(), None):
        with pytest.raises(StudyError, match="coders 0 and 2 have architecture 'topk' and 'relu', k 2 and None"):
            run_stability(StabilityOptions(), {**coders(2), "relu": other}, held_out)


def test_coders_of_other_sites_are_no_seeds_of_one():
    given = coders()
    given["seed 2"].config = given["seed 2"].config.with_(site_in="L3.resid_post", site_out="L3.resid_post")
    with pytest.raises(StudyError, match=r"site_in '' and 'L3\.resid_post'"):
        run_stability(StabilityOptions(), given)
