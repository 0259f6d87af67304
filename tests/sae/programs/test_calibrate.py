"""Calibration of k: a floor that is not lowered, an edge that is named, and a choice that other seeds confirm."""

import math
from functools import cache

import pytest
from tests.sae.programs.planted_rows import SETTINGS, TOPK, rows
from tests.sae.programs.test_arms import breaks_for

from trialplate.metrics.estimate import Estimate
from trialplate.sae.errors import StudyError
from trialplate.sae.programs import arms
from trialplate.sae.programs.calibrate import (
    CalibrationOptions,
    Candidate,
    calibration_summary,
    choose,
    run_calibration,
)
from trialplate.sae.programs.results import plain


def bound(low):
    """An estimate whose lower end is this."""
    return Estimate(low + 0.1, 3, 0.05, (low, low + 0.2))


def candidates(*found):
    return [Candidate(k, bound(ev), bound(stable)) for k, ev, stable in found]


GRID = candidates((1, 0.1, 0.9), (2, 0.4, 0.7), (4, 0.6, 0.5), (8, 0.9, 0.2), (16, 0.95, -0.1))


def test_the_most_stable_k_above_the_floor_is_chosen():
    choice = choose(GRID, ev_floor=0.5)
    assert (choice.k, choice.edge) == (4, None)
    assert choice.refused[1] == "explained variance is at least 0.1, and the floor is 0.5"
    assert choice.refused[16] == "adjusted stability is at least -0.1, wanted more than 0"
    assert 8 not in choice.refused


def test_no_k_above_the_floor_is_a_failure_and_not_a_choice_among_all():
    choice = choose(GRID, ev_floor=0.99)
    assert choice.k is None
    assert set(choice.refused) == {1, 2, 4, 8, 16}


def test_a_choice_at_the_edge_of_the_grid_is_marked():
    assert choose(GRID, ev_floor=0.0).edge == "lowest"
    assert choose(GRID, ev_floor=0.92, min_adjusted=-1).edge == "highest"
    assert choose(GRID, ev_floor=0.3).edge is None


def test_bounds_decide_and_not_means():
    wide = Candidate(4, Estimate(0.9, 3, 0.4, (0.1, 1.7)), bound(0.9))
    assert choose([*candidates((1, 0.6, 0.1), (2, 0.6, 0.2)), wide], ev_floor=0.5).k == 2


def test_a_k_with_a_missing_seed_is_no_candidate():
    choice = choose([*candidates((1, 0.9, 0.1), (2, 0.9, 0.2)), Candidate(4, None, None)], ev_floor=0.5)
    assert (choice.k, choice.refused) == (2, {4: "a seed is missing"})
    assert choice.edge is None  # larger ones were asked for


def test_of_equally_stable_k_the_smallest_is_chosen():
    assert choose(candidates((2, 0.9, 0.5), (4, 0.9, 0.5), (8, 0.9, 0.1)), ev_floor=0.5).k == 2


def test_the_pareto_front_by_hand():
    found = candidates((1, 0.1, 0.9), (2, 0.4, 0.7), (3, 0.3, 0.6), (4, 0.4, 0.7), (8, 0.9, 0.2))
    assert choose(found, ev_floor=0.5).pareto == (1, 2, 4, 8)  # 3 is below 2 in both; 2 and 4 are equal


def test_seeds_that_search_do_not_confirm():
    with pytest.raises(StudyError, match="seeds 2 search and confirm"):
        options(confirm_seeds=(2, 5, 6))


@pytest.mark.parametrize(
    "more",
    [
        {"ks": (1, 2)},
        {"ks": (1, 2, 2)},
        {"ev_floor": 1.0},
        {"ev_floor": math.nan},
        {"search_seeds": (0, 1)},
        {"confirm_seeds": (5, 6)},
        {"coder": TOPK.with_(architecture="relu", k=None)},
    ],
)
def test_options_that_answer_nothing_are_refused(more):
    with pytest.raises(StudyError):
        options(**more)


def options(**more):
    known = {
        "coder": TOPK,
        "settings": SETTINGS,
        "ks": (1, 2, 6),
        "ev_floor": 0.6,
        "search_seeds": (0, 1, 2, 3),
        "confirm_seeds": (5, 6, 7),
        "min_adjusted": -1.0,
    }
    return CalibrationOptions(**{**known, **more})


@cache
def result():
    return run_calibration(options(), *rows())


def test_the_choice_is_trained_again_with_other_seeds():
    found = result()
    assert found["selected_k"] == 2
    assert (found["status"], found["edge"], found["warnings"]) == ("confirmed", None, [])
    assert found["confirm"]["seeds"] == [5, 6, 7]
    assert {seed for one in found["search"] for seed in one["seeds"]} == {0, 1, 2, 3}
    searched = next(one for one in found["search"] if one["k"] == found["selected_k"])
    assert found["search_lower_bound"] == searched["adjusted_low"] == searched["stability"]["adjusted"]["ci"][0]
    assert found["confirm_lower_bound"] == found["confirm"]["stability"]["adjusted"]["ci"][0]
    assert found["confirm_lower_bound"] != found["search_lower_bound"]
    # one condition by key, with the coders of the search and those that confirm
    assert sorted(map(len, found["subject"]["coders"].values())) == [4, 4, 7]


def test_a_floor_that_nothing_meets_is_said_and_trains_nothing_again():
    trained = []
    found = run_calibration(
        options(ev_floor=0.999, settings=SETTINGS.with_(steps=2)), *rows(), after=lambda key, n: trained.append(n)
    )
    assert (found["status"], found["selected_k"], found["confirm"]) == ("no_candidate", None, None)
    assert found["search_lower_bound"] is None
    assert trained == [4, 4, 4]
    assert "no k meets the demands" in calibration_summary(found)


def test_what_other_seeds_do_not_show_is_not_confirmed_and_an_edge_is_warned_of(monkeypatch):
    monkeypatch.setattr(arms, "train", breaks_for(7))
    found = run_calibration(options(ev_floor=0.8, search_seeds=(0, 1, 2)), *rows())
    assert (found["selected_k"], found["edge"]) == (6, "highest")  # the only one above the floor
    assert "a larger one may be better, so extend the grid" in found["warnings"][0]
    assert found["warnings"][0] in calibration_summary(found)
    assert (found["status"], found["confirm"]["status"]) == ("not_confirmed", "missing")
    assert found["confirm_lower_bound"] is None


def test_options_and_result_are_plain():
    assert plain(options())["ev_floor"] == 0.6
    assert plain(result()) == result()
