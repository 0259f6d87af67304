"""Names of metrics on pictures, and which share a page."""

import pytest

from trialplate.figures.measures import MEASURES, PAGES, file_word, measure, pages
from trialplate.figures.style import FigureError


def test_every_metric_of_a_page_has_words():
    assert {m for page in PAGES.values() for m in page} <= set(MEASURES)


@pytest.mark.parametrize("level", ["0.5", "-0.17", "2"])
def test_a_threshold_of_the_users_own_is_said(level):
    assert measure(f"act_frac@{level}").axis == f"share of entries > {level}"
    assert pages([f"act_frac@{level}"]) == {"tokens": [f"act_frac@{level}"]}


def test_pages_keep_their_order_and_what_is_unknown_comes_last():
    assert pages(["gini", "mine", "dead_frac", "act_frac@0"]) == {
        "tokens": ["act_frac@0", "gini"], "units": ["dead_frac"], "other": ["mine"],
    }  # fmt: skip
    assert measure("mine") == ("mine", "mine")


def test_no_metric_is_no_page():
    with pytest.raises(FigureError, match="no metric to draw"):
        pages([])


def test_file_names_have_no_signs():
    assert file_word("act_frac@rel") == "act_frac_rel"
    assert file_word("embedded:m|cpu|float32") == "embedded_m_cpu_float32"
