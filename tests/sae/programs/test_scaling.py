"""Scaling: budgets of different tokens from one mixture, slopes with intervals over seeds, and holes that are named."""

from functools import cache

import pytest
import torch
from tests.sae.programs.planted_rows import SETTINGS, TOPK, M, rows
from tests.sae.programs.test_arms import breaks_for

from trialplate.sae.errors import StudyError
from trialplate.sae.programs import arms
from trialplate.sae.programs.results import plain
from trialplate.sae.programs.scaling import (
    Cell,
    ScalingOptions,
    budget_rows,
    fits,
    run_scaling,
    scaling_summary,
)
from trialplate.sae.source import from_tensor

SITE = "L1.resid_post"


def cell(budget, d_sae, lost, missing=None):
    return Cell(SITE, budget, d_sae, {} if missing else dict(zip((1, 2, 3), lost, strict=True)), missing or {})


GRID = [cell(b, m, [s * b**-0.5 * m**-0.25 for s in (1, 2, 3)]) for b in (100, 400, 1600) for m in (8, 16)]


def test_planted_slopes_are_found_on_both_axes():
    for axis, slope in (("budget", -0.5), ("d_sae", -0.25)):
        for one in fits(GRID, axis):
            assert one["fit"].slope.value == pytest.approx(slope)
            assert one["lacks"] == []
    assert [(one["site"], one["d_sae"]) for one in fits(GRID, "budget")] == [(SITE, 8), (SITE, 16)]


def test_a_hole_in_the_grid_is_named_and_not_fitted_over():
    grid = [cell(400, 8, (), {"2": "the loss is nan"}) if (c.budget, c.d_sae) == (400, 8) else c for c in GRID]
    narrow, wide = fits(grid, "budget")
    assert (narrow["fit"], narrow["lacks"]) == (None, ["budget 400 seed 2"])
    assert wide["fit"].slope.value == pytest.approx(-0.5)
    assert [one["fit"] is None for one in fits(grid, "d_sae")] == [False, True, False]


def test_a_budget_is_of_different_tokens_from_all_of_the_rows():
    documents = torch.arange(1000) // 100
    source = from_tensor(torch.arange(2000.0).reshape(1000, 2), name="counted", documents=documents)
    small, large = budget_rows(source, 100, seed=0), budget_rows(source, 500, seed=0)
    assert (small.n_rows, len(set(small.index.tolist()))) == (100, 100)
    assert set(small.index.tolist()) < set(large.index.tolist())
    # filled document by document, a tenth of the rows would be one document; here every document is in it
    assert torch.bincount(documents[small.index]).min() > 0
    assert budget_rows(source, 100, seed=1).index.tolist() != small.index.tolist()
    with pytest.raises(StudyError, match="1001 unique tokens were asked for, and there are 1000"):
        budget_rows(source, 1001, seed=0)


def options(**more):
    known = {"budgets": (192, 768), "d_saes": (8, M), "seeds": (1, 2, 3)}
    return ScalingOptions(TOPK, SETTINGS, **{**known, **more})


@cache
def result():
    return run_scaling(options(), {SITE: rows()})


def test_a_study_measures_every_cell_on_held_out_rows():
    found = result()
    assert (found["n_cells"], found["n_missing"]) == (4, 0)
    about = [(one["site"], one["budget"], one["d_sae"], one["steps"]) for one in found["cells"]]
    assert about == [(SITE, b, m, b // 64) for b in (192, 768) for m in (8, M)]
    assert len(found["subject"]["sites"][SITE]["coders"]) == 4
    for one in found["slopes"]["budget"]:
        assert one["fit"]["slope"]["ci"][1] < 0  # more tokens, less error
        assert one["fit"]["bend"] is None
    lost = {one["budget"]: 1 - one["ev"]["value"] for one in found["cells"] if one["d_sae"] == M}
    assert lost[768] < lost[192]
    assert f"| budget | {SITE} | d_sae 8 |" in scaling_summary(found)


def test_missing_cells_are_reported(monkeypatch):
    monkeypatch.setattr(arms, "train", breaks_for(2))
    found = run_scaling(options(budgets=(192, 768, 5000), d_saes=(8,)), {SITE: rows()})
    assert [one["status"] for one in found["cells"]] == ["missing"] * 3
    assert (found["n_cells"], found["n_missing"]) == (3, 5)
    assert found["cells"][0]["missing"] == {"2": "seed 2: the loss is nan"}
    # fewer tokens than asked for are not taken for the budget
    assert found["cells"][2]["missing"]["1"] == "5000 unique tokens were asked for, and there are 800"
    text = scaling_summary(found)
    assert "fewer tokens also means fewer steps" in text
    assert "Bend: what a quadratic term would be" in text
    assert "not fitted: budget 192 seed 2" in text
    assert f"| {SITE} | 192 | {found['cells'][0]['steps']} | 8 | missing: seed 2, seed 2: the loss is nan |" in text


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"budgets": (100,), "d_saes": (8,)}, "make no slope"),
        ({"budgets": (768, 192)}, "ascending token budgets"),
        ({"d_saes": (8, 8)}, "ascending widths"),
        ({"seeds": (1, 2)}, "at least 3 seeds"),
        ({"budgets": (192, 200)}, "steps of its own"),
        ({"budgets": (10, 200)}, "steps of its own"),
        ({"passes": 0}, "steps of its own"),
    ],
)
def test_options_that_answer_nothing_are_refused(more, text):
    with pytest.raises(StudyError, match=text):
        options(**more)


def test_no_site_is_refused():
    with pytest.raises(StudyError, match="at least one site"):
        run_scaling(options(), {})


def test_options_and_result_are_plain():
    assert plain(options())["budgets"] == [192, 768]
    assert plain(result()) == result()
