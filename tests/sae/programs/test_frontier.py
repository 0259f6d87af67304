"""Architectures are compared at the L0 that was measured, over all seeds or not at all."""

import math
from functools import cache

import pytest
from tests.sae.programs.planted_rows import SETTINGS, TOPK, rows
from tests.sae.programs.test_arms import breaks_for

from trialplate.sae.errors import StudyError
from trialplate.sae.programs import arms
from trialplate.sae.programs.frontier import (
    Cell,
    FrontierOptions,
    area,
    at_l0,
    frontier_summary,
    rank,
    run_frontier,
    verdicts,
)
from trialplate.sae.programs.results import plain


def cell(architecture, target, ev, l0=None, missing=None):
    seeds = (1, 2, 3)
    l0 = [target] * 3 if l0 is None else l0
    return Cell(
        architecture, target, dict(zip(seeds, ev, strict=True)), dict(zip(seeds, l0, strict=True)), missing or {}
    )


GOOD, FAIR, POOR = (0.90, 0.91, 0.92), (0.80, 0.81, 0.83), (0.50, 0.52, 0.51)


def test_an_unmatched_l0_is_not_ranked():
    # L0 of 654 and 975 beside one of 32: more latents reconstruct better, and that is no merit
    dense = cell("relu", 32, (0.99, 0.99, 0.995), l0=(650, 654, 658))
    found = rank([cell("topk", 32, GOOD), cell("batchtopk", 32, FAIR), dense], tolerance=0.1)
    assert dense.status(0.1) == "unmatched"
    assert found["order"] == {"32": ["topk", "batchtopk"]}
    assert found["best"] == {"32": "topk"}
    assert {one["first"] for one in found["comparisons"]} | {one["second"] for one in found["comparisons"]} == {
        "topk", "batchtopk",
    }  # fmt: skip


def test_every_seed_must_match():
    assert cell("topk", 10, GOOD, l0=(10, 9.1, 10.9)).status(0.1) == "matched"
    assert cell("topk", 10, GOOD, l0=(10, 10, 11.2)).status(0.1) == "unmatched"  # its mean is 10.4
    assert cell("topk", 10, GOOD, l0=(0, 0, 0)).status(0.1) == "unmatched"


def test_a_missing_seed_takes_its_cell_out():
    lost = Cell("batchtopk", 32, {}, {}, {"2": "the loss is nan"})
    assert lost.status(0.1) == "missing"
    found = rank([cell("topk", 32, GOOD), lost], tolerance=0.1)
    assert (found["order"], found["best"], found["comparisons"]) == ({"32": ["topk"]}, {"32": None}, [])


def test_the_best_is_better_than_every_other_after_correction():
    near = (0.899, 0.9105, 0.919)
    found = rank([cell("topk", 8, GOOD), cell("batchtopk", 8, near), cell("relu", 8, POOR)], tolerance=0.1)
    assert found["order"]["8"][-1] == "relu"
    assert found["best"] == {"8": None}
    # three comparisons at each of two targets are six in all
    two = rank(
        [cell(name, t, ev) for t in (8, 16) for name, ev in (("topk", GOOD), ("batchtopk", FAIR), ("relu", POOR))],
        tolerance=0.1,
    )
    assert len(two["comparisons"]) == 6
    smallest = min(two["comparisons"], key=lambda one: one["p_value"])
    assert smallest["p_holm"] == pytest.approx(6 * smallest["p_value"])


def test_the_area_under_a_frontier_by_hand():
    # EV .5 at L0 1, .7 at e, .8 at e^2 for every seed: trapezia .6 and .75 of width 1, mean .675
    cells = [cell("topk", t, (ev, ev, ev)) for t, ev in ((math.e, 0.7), (1.0, 0.5), (math.e**2, 0.8))]
    found = area(cells)
    assert found is not None
    assert found.value == pytest.approx(0.675)
    assert found.n == 3
    assert area(cells[:1]) is None
    assert area([*cells, Cell("topk", 50, {}, {}, {"1": "lost"})]) is None
    assert area([cell("topk", 4, GOOD, l0=(4, 4, 4)), cell("topk", 5, GOOD, l0=(4, 4, 4))]) is None


def test_what_an_architecture_is_asked_for():
    coder, settings = at_l0("batchtopk", 3, TOPK, SETTINGS)
    assert (coder.architecture, coder.k, settings.l0_target) == ("batchtopk", 3, None)
    coder, settings = at_l0("jumprelu", 2.5, TOPK, SETTINGS)
    assert (coder.architecture, coder.k, settings.l0_target) == ("jumprelu", None, 2.5)
    coder, settings = at_l0("routed", 2, TOPK, SETTINGS, n_experts=4)
    assert (coder.k, coder.n_experts) == (2, 4)
    with pytest.raises(StudyError, match=r"cannot be 2\.5"):
        at_l0("topk", 2.5, TOPK, SETTINGS)


def options(**more):
    known = {"architectures": ("topk", "batchtopk", "relu"), "targets": (2,), "seeds": (1, 2, 3)}
    return FrontierOptions(TOPK, SETTINGS.with_(steps=30), **{**known, **more})


@cache
def result():
    return run_frontier(options(), *rows())


def test_a_study_says_of_every_cell_what_it_is():
    found = {one["architecture"]: one for one in result()["cells"]}
    assert found["topk"]["status"] == "matched"
    assert found["topk"]["l0"]["value"] == pytest.approx(2, rel=0.1)
    assert found["relu"]["status"] == "unmatched"  # 30 steps are too few for the controller of its penalty
    assert "relu" not in result()["order"]["2"]
    assert [len(one["cells"]) for one in found.values()] == [3, 3, 3]
    assert result()["architectures"]["topk"] == {"area": None, "n_targets": 1, "n_matched": 1, "n_missing": 0}
    text = frontier_summary(result())
    assert "| 2 | relu | unmatched |" in text
    assert "better than every other.\n" not in text


@pytest.mark.parametrize(
    ("best", "order", "statuses", "text"),
    [
        ("topk", ["topk", "batchtopk"], {"relu": "unmatched", "jumprelu": "unmatched"}, "topk is better than batchtopk; relu and jumprelu missed their L0"),
        ("topk", ["topk", "relu", "batchtopk"], {}, "topk is better than relu and batchtopk"),
        (None, ["topk", "relu"], {"jumprelu": "missing"}, "none of topk and relu is better than every other of them; coders of jumprelu are missing"),
        (None, ["topk"], {"relu": "unmatched"}, "topk alone reached its L0, so nothing is compared; relu missed its L0"),
        (None, [], {"relu": "unmatched"}, "none reached its L0"),
    ],
)  # fmt: skip
def test_what_was_not_compared_was_not_beaten(best, order, statuses, text):
    """The defect: "better than every other" was said where two of four had missed the target."""
    cells = [{"target": 2.0, "architecture": name, "status": status} for name, status in statuses.items()]
    assert verdicts({"best": {"2": best}, "order": {"2": order}, "cells": cells}) == {"2": text}


def test_a_hole_in_a_study_is_shown(monkeypatch):
    monkeypatch.setattr(arms, "train", breaks_for(2))
    found = run_frontier(options(architectures=("topk",), targets=(1, 2)), *rows())
    assert [one["status"] for one in found["cells"]] == ["missing", "missing"]
    assert found["n_missing"] == 2
    assert found["architectures"]["topk"]["n_missing"] == 2
    assert "| 1 | topk | missing |" in frontier_summary(found)


@pytest.mark.parametrize(
    "more",
    [
        {"architectures": ()},
        {"architectures": ("topk", "topk")},
        {"architectures": ("gated",)},
        {"targets": (0,)},
        {"targets": (math.nan,)},
        {"targets": (99,)},
        {"seeds": (1, 2)},
        {"tolerance": 0.0},
    ],
)
def test_options_that_answer_nothing_are_refused(more):
    with pytest.raises(StudyError):
        options(**more)


def test_options_and_result_are_plain():
    assert plain(options())["targets"] == [2]
    assert plain(result()) == result()
