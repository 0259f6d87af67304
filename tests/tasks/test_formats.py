"""Readers of public formats: what the model is asked, and how a row that does not fit is told."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialplate.tasks.formats import (
    READERS,
    ChoiceQuestion,
    ClozeItem,
    FormatError,
    MinimalPair,
    read_arc,
    read_blimp,
    read_lambada,
    read_piqa,
    read_sciq,
)

PIQA = {"goal": "To dry a wet shoe,", "sol1": "freeze it", "sol2": "stuff it with paper", "label": 1}
ARC = {
    "id": "x",
    "question": "Which one melts?",
    "choices": {"text": ["ice", "sand", "iron"], "label": ["A", "B", "C"]},
    "answerKey": "A",
}
SCIQ = {
    "question": "What do bees make?",
    "support": " Bees make honey.",
    "distractor1": "milk",
    "distractor2": "silk",
    "distractor3": "wool",
    "correct_answer": "honey",
}
BLIMP = {"sentence_good": "The cat sleeps.", "sentence_bad": "The cat sleep.", "UID": "agreement", "pairID": "7"}


@pytest.fixture
def rows(tmp_path):
    def write(*rows):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return path

    return write


def test_lambada_predicts_the_last_word_with_its_space(rows):
    item = read_lambada(rows({"text": "She opened the door and saw her  brother"}))[0]
    assert (item.context, item.target) == ("She opened the door and saw her ", " brother")
    assert item.context + item.target == "She opened the door and saw her  brother"


def test_piqa(rows):
    question = read_piqa(rows(PIQA))[0]
    assert question.context == "Question: To dry a wet shoe,\nAnswer:"
    assert question.choices == (" freeze it", " stuff it with paper")
    assert question.gold == 1
    assert question.bare == ("freeze it", "stuff it with paper")
    assert question.lengths == (9, 19)  # acc_norm divides by the text without the delimiter


def test_arc(rows):
    question = read_arc(rows(ARC))[0]
    assert (question.context, question.gold) == ("Question: Which one melts?\nAnswer:", 0)
    assert question.choices == (" ice", " sand", " iron")


@pytest.mark.parametrize(
    ("labels", "key", "gold"),
    [("ABC", "C", 2), ("123", "2", 1), ("ABC", "2", 1), ("123", "C", 2), ("BCA", "A", 2)],
)
def test_arc_keys_are_letters_or_numbers(rows, labels, key, gold):
    row = {**ARC, "choices": {"text": ["ice", "sand", "iron"], "label": list(labels)}, "answerKey": key}
    assert read_arc(rows(row))[0].gold == gold


def test_the_older_form_of_arc(rows):
    choices = [{"text": "ice", "label": "A"}, {"text": "sand", "label": "B"}]
    row = {"id": "x", "question": {"stem": "Which one melts?", "choices": choices}, "answerKey": "B"}
    question = read_arc(rows(row))[0]
    assert (question.choices, question.gold) == ((" ice", " sand"), 1)


def test_sciq_has_the_answer_last(rows):
    question = read_sciq(rows(SCIQ))[0]
    assert question.context == "Bees make honey.\nQuestion: What do bees make?\nAnswer:"
    assert question.choices == (" milk", " silk", " wool", " honey")
    assert question.gold == 3


def test_sciq_without_support_begins_with_the_line_break(rows):
    assert read_sciq(rows({**SCIQ, "support": ""}))[0].context.startswith("\nQuestion:")


def test_blimp(rows):
    pair = read_blimp(rows({**BLIMP, "field": "morphology", "one_prefix_method": True}))[0]
    assert pair == MinimalPair("agreement/7", "The cat sleeps.", "The cat sleep.", "agreement")


def test_blimp_spells_the_number_of_a_pair_in_two_ways(rows):
    other = {key: value for key, value in BLIMP.items() if key != "pairID"}
    assert read_blimp(rows({**other, "pair_id": 3}))[0].id == "agreement/3"
    assert read_blimp(rows(other))[0].id.startswith("agreement/")


def test_ids_follow_the_content_and_not_the_order(rows):
    one, two = {"text": "a first word"}, {"text": "a second word"}
    ids = {item.target + item.context: item.id for item in read_lambada(rows(one, two))}
    assert ids == {item.target + item.context: item.id for item in read_lambada(rows(two, one))}


def test_a_row_that_stands_twice_has_two_ids(rows):
    ids = [item.id for item in read_lambada(rows({"text": "the same"}, {"text": "the same"}))]
    assert ids[1] == ids[0] + "-2"


@pytest.mark.parametrize(
    ("reader", "row", "text"),
    [
        (read_lambada, {"txt": "a b"}, "`text`: wanted a string, got no such key"),
        (read_lambada, {"text": "word"}, "`text`: wanted words with a last one to predict"),
        (read_lambada, {"text": "two words "}, "`text`: wanted words with a last one to predict"),
        (read_lambada, {"text": " word"}, "`text`: wanted words with a last one to predict"),
        (read_piqa, {**PIQA, "label": 2}, "`label`: wanted an integer from 0 to 1, got integer 2"),
        (read_piqa, {**PIQA, "label": None}, "`label`: .*join the rows with their label file"),
        (read_piqa, {**PIQA, "sol2": 5}, "`sol2`: wanted a string, got integer 5"),
        (read_arc, {**ARC, "answerKey": "D"}, "`answerKey`: wanted one of the labels A, B, C, got 'D'"),
        (read_arc, {**ARC, "answerKey": "12"}, "`answerKey`: wanted one of the labels"),
        (
            read_arc,
            {**ARC, "choices": {"text": ["a", "b"], "label": ["A"]}},
            "`choices.label`: wanted a list of at least 2",
        ),
        (
            read_arc,
            {**ARC, "choices": {"text": ["a", "b"], "label": ["A", "A"]}},
            "`choices`: wanted one label of its own",
        ),
        (read_sciq, {**SCIQ, "distractor2": ""}, "`distractor2`: wanted a string with something in it"),
        (read_blimp, {**BLIMP, "sentence_bad": "The cat sleeps."}, "`sentence_bad`: wanted another sentence"),
        (read_blimp, {**BLIMP, "pairID": [1]}, r"`pairID`: wanted a number or a string, got list \[1\]"),
        (read_blimp, "not json", "not JSON"),
    ],
)
def test_a_row_that_does_not_fit_is_named(rows, reader, row, text):
    with pytest.raises(FormatError, match=rf"rows\.jsonl:2: .*{text}"):
        reader(rows("# what follows is wrong", row))


@pytest.mark.parametrize("reader", READERS.values())
def test_an_empty_or_absent_file_is_refused(rows, tmp_path, reader):
    with pytest.raises(FormatError, match=r"rows\.jsonl: no row in it"):
        reader(rows(""))
    with pytest.raises(FormatError, match="cannot be read: No such file"):
        reader(tmp_path / "absent.jsonl")


@pytest.mark.parametrize("reader", READERS.values())
@given(content=st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
def test_any_bytes_give_rows_or_a_format_error(tmp_path_factory, reader, content):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(content)
    try:
        rows = reader(path)
    except FormatError:
        return
    assert all(isinstance(row, ChoiceQuestion | ClozeItem | MinimalPair) for row in rows)
