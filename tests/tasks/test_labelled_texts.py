"""Labelled texts: generated sets whose splits share nothing, and readers of real sets that say which line is wrong."""

import json
from collections import Counter
from pathlib import Path
from statistics import mean

import pytest
from tokenizers import Tokenizer

import trialplate.models
from trialplate.tasks.formats import FormatError
from trialplate.tasks.labelled_formats import READERS, read_labelled
from trialplate.tasks.labelled_texts import (
    RECIPES,
    SPLITS,
    LabelledSet,
    labelled_text,
    labelled_texts,
    split_of_content,
)
from trialplate.tasks.lexicon import COUNTRIES, NOUNS, PLACES

SIZES = {"train": 24, "valid": 8, "test": 8}


@pytest.fixture(scope="module", params=list(RECIPES))
def made(request):
    return labelled_texts(request.param, **SIZES)


@pytest.fixture
def rows(tmp_path):
    def write(*lines):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
        return path

    return write


# --- generated -----------------------------------------------------------------------------------------------------------


def test_every_class_has_its_texts_in_every_split(made):
    counts = Counter((text.label, text.second, text.split) for text in made.texts)
    assert counts == {(*labels, split): n for labels in RECIPES[made.name] for split, n in SIZES.items()}
    assert len({text.id for text in made.texts}) == len(made.texts)


def test_no_document_stands_in_two_splits(made):
    documents = [{part for number in made.of(split) for part in made.texts[number].parts} for split in SPLITS]
    assert all(documents)
    assert not documents[0] & documents[1] | documents[0] & documents[2] | documents[1] & documents[2]


def test_the_same_seed_makes_the_same_set(made):
    assert labelled_texts(made.name, **SIZES).digest() == made.digest()
    assert labelled_texts(made.name, seed=1, **SIZES).digest() != made.digest()


def test_a_longer_set_begins_with_a_shorter_one(made):
    longer = labelled_texts(made.name, **{**SIZES, "valid": 12})
    assert {t for t in made.texts if t.split == "valid"} < {t for t in longer.texts if t.split == "valid"}


@pytest.mark.parametrize("name", ["domain", "continent"])
def test_a_class_has_hundreds_of_texts(name):
    made = labelled_texts(name)
    assert set(Counter(text.label for text in made.texts).values()) == {400}
    assert len(made.classes) >= 4
    # no two texts of a class are made of the same documents
    assert len({(text.label, frozenset(text.parts)) for text in made.texts}) == len(made.texts)


def test_length_does_not_tell_the_class(made):
    tokenizer = Tokenizer.from_file(
        str(Path(trialplate.models.__file__).parent / "embedded" / "neox-tiny" / "tokenizer.json")
    )
    lengths = {}
    for text in made.texts:
        n = sum(len(tokenizer.encode(part).ids) for part in text.parts)
        lengths.setdefault((text.label, text.second), []).append(n)
    means = [mean(found) for found in lengths.values()]
    assert max(means) < 1.3 * min(means)
    assert min(min(found) for found in lengths.values()) >= 15
    assert max(max(found) for found in lengths.values()) < 100


def test_continents_are_not_named():
    made = labelled_texts("continent", **SIZES)
    names = {country.continent for country in COUNTRIES}
    assert not any(name in text.text for text in made.texts for name in names)
    where = {country.name: country.continent for country in COUNTRIES} | {c.capital: c.continent for c in COUNTRIES}
    for text in made.texts:
        assert all(any(name in part and where[name] == text.label for name in where) for part in text.parts)


def test_labels_say_what_is_written():
    for text in labelled_texts("place", **SIZES).texts:
        assert all([place for place in PLACES if f" {place}" in part] == [text.label] for part in text.parts)
    for text in labelled_texts("register", **SIZES).texts:
        assert all(part.startswith("Question") == (text.label == "question") for part in text.parts)
    animals = {"bear", "lion", "wolf", "cat"}
    for text in labelled_texts("kind_by_number", **SIZES).texts:
        words = set(text.text.replace("at the door", "").replace(".", "").split())
        own, other = (NOUNS.values(), NOUNS) if text.second == "plural" else (NOUNS, NOUNS.values())
        assert words & set(own)
        assert not words & (set(other) - set(own))
        assert text.label == "animals" or not words & animals


def test_two_by_two_has_all_four_combinations():
    made = labelled_texts("kind_by_number", **SIZES)
    assert made.classes == ("animals", "people")
    assert made.seconds == ("plural", "singular")


def test_what_cannot_be_made_is_refused():
    with pytest.raises(KeyError, match="known: domain, continent"):
        labelled_texts("topics")
    with pytest.raises(ValueError, match="at least one text a class"):
        labelled_texts("place", test=0)
    with pytest.raises(ValueError, match=r"in test, only \d+ different ones"):
        labelled_texts("continent", train=1, valid=1, test=3000)


def test_a_set_refuses_a_document_in_two_splits():
    texts = [labelled_text(("a", "b"), "x", "train"), labelled_text(("c", "b"), "y", "test")]
    with pytest.raises(ValueError, match="stands in both train and test: 'b'"):
        LabelledSet("s", tuple(texts))
    with pytest.raises(ValueError, match="at least two classes"):
        LabelledSet("s", tuple(texts[:1]))
    with pytest.raises(ValueError, match="at least two classes"):
        LabelledSet("s", ())


def test_the_split_of_a_content_is_fixed():
    shares = Counter(split_of_content(f"text {i}") for i in range(2000))
    assert [shares[split] / 2000 for split in SPLITS] == pytest.approx([0.6, 0.2, 0.2], abs=0.03)
    assert [split_of_content(f"text {i}") for i in range(5)] == [split_of_content(f"text {i}") for i in range(5)]


# --- files ---------------------------------------------------------------------------------------------------------------

EXAMPLES = {
    "bias_in_bios": [
        ({"hard_text": "She teaches.", "profession": 21, "gender": 1}, [("She teaches.", "21", "1")]),
        ({"hard_text": "He heals.", "profession": "nurse", "gender": "0"}, [("He heals.", "nurse", "0")]),
    ],
    "amazon": [
        ({"text": "Good.", "label": 1, "title": "t"}, [("Good.", "1", "")]),
        ({"review_body": "Bad.", "star_rating": 2.0}, [("Bad.", "2", "")]),
    ],
    "ag_news": [({"text": "Shares fell.", "label": 2}, [("Shares fell.", "2", "")]), ({"text": "Won.", "label": 1}, [("Won.", "1", "")])],
    "europarl": [
        ({"translation": {"en": "Thank you.", "fr": "Merci."}}, [("Thank you.", "en", ""), ("Merci.", "fr", "")]),
        ({"text": "Danke.", "language": "de"}, [("Danke.", "de", "")]),
    ],
    "github_code": [
        ({"code": "x = 1\n", "language": "Python", "path": "a.py"}, [("x = 1\n", "Python", "")]),
        ({"code": "int x;", "language": "C"}, [("int x;", "C", "")]),
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", list(READERS))
def test_real_formats(kind, rows):
    examples = EXAMPLES[kind]
    found = read_labelled(rows(*(row for row, _ in examples)), kind)
    assert [(text.text, text.label, text.second) for text in found.texts] == [
        row for _, wanted in examples for row in wanted
    ]
    assert all(text.split == split_of_content(text.text) for text in found.texts)
    assert found.name == kind


def test_a_repeated_text_counts_once_and_stays_in_one_split(rows):
    path = rows({"text": "a b", "label": 0}, {"text": "a b", "label": 0}, {"text": "a b", "label": 1})
    found = read_labelled(path, "ag_news")
    assert [text.label for text in found.texts] == ["0", "1"]
    assert len({text.split for text in found.texts}) == 1


@pytest.mark.parametrize(
    ("kind", "row", "said"),
    [
        ("ag_news", {"text": "x"}, r"rows.jsonl:2: `label`: wanted a label, .* got no such key"),
        ("ag_news", {"label": 1}, r":2: `text`: wanted a string, got no such key"),
        ("ag_news", {"text": "  ", "label": 1}, r":2: `text`: wanted a text, got white space only"),
        ("ag_news", {"text": "x", "label": True}, r":2: `label`: wanted a label"),
        ("amazon", {"review_body": "x", "star_rating": 4.5}, r":2: `star_rating`: wanted a label"),
        ("amazon", {"text": "x"}, r":2: `label`: wanted a label"),
        ("bias_in_bios", {"hard_text": "x", "profession": 1}, r":2: `gender`: wanted a label"),
        ("europarl", {"translation": {"en": "x"}}, r":2: `translation`: wanted a text in each of at least two"),
        ("europarl", {"translation": {"en": "x", "fr": 3}}, r":2: `translation.fr`: wanted a string"),
        ("github_code", "not json", r":2: not JSON"),
    ],
)
def test_a_bad_row_names_its_line(kind, row, said, rows):
    good = EXAMPLES[kind][0][0]
    with pytest.raises(FormatError, match=said):
        read_labelled(rows(good, row), kind)


def test_files_that_cannot_be_probed(rows, tmp_path):
    with pytest.raises(FormatError, match=r"1 texts of \['0'\]; a probe tells at least two classes apart"):
        read_labelled(rows({"text": "x", "label": 0}), "ag_news")
    with pytest.raises(FormatError, match="cannot be read"):
        read_labelled(tmp_path / "absent.jsonl", "ag_news")
    with pytest.raises(KeyError, match="did you mean `amazon`"):
        read_labelled(tmp_path / "absent.jsonl", "amazn")
