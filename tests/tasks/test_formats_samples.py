"""Sample rows: the fields of the public formats, the right answer where the format says it is, different rows for different seeds."""

from collections import Counter

import pytest

from trialplate.tasks.lexicon import COUNTRIES
from trialplate.tasks.probes.formats_samples import arc_rows, lambada_rows, minimal_pair_rows, piqa_rows, sciq_rows

MAKERS = [lambada_rows, piqa_rows, arc_rows, sciq_rows, minimal_pair_rows]
FIELDS = {
    lambada_rows: {"text"},
    piqa_rows: {"goal", "sol1", "sol2", "label"},
    arc_rows: {"id", "question", "choices", "answerKey"},
    sciq_rows: {"question", "distractor1", "distractor2", "distractor3", "correct_answer", "support"},
    minimal_pair_rows: {
        "sentence_good",
        "sentence_bad",
        "field",
        "linguistics_term",
        "UID",
        "simple_LM_method",
        "lexically_identical",
        "pairID",
    },
}
CAPITAL = {country.name: country.capital for country in COUNTRIES}


@pytest.mark.parametrize("make", MAKERS)
def test_rows_are_a_function_of_the_seed(make):
    rows = make(20, 0)
    assert len(rows) == 20
    assert rows == make(20, 0) != make(20, 1)
    assert all(set(row) == FIELDS[make] for row in rows)
    with pytest.raises(ValueError, match="n = 0"):
        make(0, 0)


def test_the_last_word_of_a_passage_was_there_before():
    for row in lambada_rows(40, 0):
        before, last = row["text"].rsplit(" ", 1)
        assert last.isalpha()
        assert last in before


def test_piqa_label_points_at_the_true_solution():
    rows = piqa_rows(122, 0)
    truth = {c.name: {c.language, c.continent} for c in COUNTRIES}
    for row in rows:
        name = row["goal"].removesuffix("?").split()[-1]
        assert row[f"sol{row['label'] + 1}"] in truth[name]
        assert row["sol1"] != row["sol2"]
    assert 40 < Counter(row["label"] for row in rows)[1] < 82


def test_arc_key_points_at_the_true_choice():
    for row in arc_rows(122, 0):
        right = dict(zip(row["choices"]["label"], row["choices"]["text"], strict=True))[row["answerKey"]]
        name = row["question"].removesuffix("?").split()[-1]
        assert right == CAPITAL[name] if name in CAPITAL else CAPITAL[right] == name
        assert len(set(row["choices"]["text"])) == 4


def test_sciq_support_holds_the_answer():
    for row in sciq_rows(183, 0):
        assert row["correct_answer"] in row["support"]
        assert len({row["correct_answer"], *(row[f"distractor{i}"] for i in (1, 2, 3))}) == 4


def test_no_more_questions_than_there_are():
    with pytest.raises(ValueError, match="only 122 exist"):
        arc_rows(123, 0)


def test_minimal_pairs_take_turns():
    assert Counter(row["UID"] for row in minimal_pair_rows(31, 0)) == {
        "agreement_plain": 11,
        "agreement_attractor": 10,
        "determiner_noun": 10,
    }
    assert [row["pairID"] for row in minimal_pair_rows(3, 0)] == ["0", "1", "2"]
