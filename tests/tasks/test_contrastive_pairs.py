"""Pairs of stories: generated ones with opposed framing, and files in the format of CE-Bench."""

import json
from collections import Counter
from pathlib import Path

import pytest
from tokenizers import Tokenizer

import trialplate.models
from trialplate.tasks.contrastive_pairs import FRAMED, contrastive_pairs, pairs_digest, read_pairs
from trialplate.tasks.formats import FormatError
from trialplate.tasks.lexicon import NOUNS


@pytest.fixture
def rows(tmp_path):
    def write(*lines):
        path = tmp_path / "pairs.jsonl"
        path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
        return path

    return write


def test_subjects_come_in_turn():
    pairs = contrastive_pairs(112)
    assert set(Counter(pair.subject for pair in pairs).values()) == {2}
    assert len({pair.subject for pair in pairs[:30]}) == 30
    assert len({pair.id for pair in pairs}) == 112


def test_the_same_seed_tells_the_same_stories():
    assert contrastive_pairs(20) == contrastive_pairs(60)[:20]
    assert pairs_digest(contrastive_pairs(20)) == pairs_digest(contrastive_pairs(20))
    assert pairs_digest(contrastive_pairs(20)) != pairs_digest(contrastive_pairs(20, seed=1))
    with pytest.raises(ValueError, match="at least 1"):
        contrastive_pairs(0)


def test_stories_are_about_their_subject_and_differ_in_framing():
    endings = {"bright": set(), "gloomy": set()}
    for pair in contrastive_pairs(112):
        assert len(pair.first) == len(pair.second) == 1 + FRAMED
        assert pair.first[0] == pair.second[0]  # the neutral sentence
        for name, story in (("bright", pair.first), ("gloomy", pair.second)):
            assert all(pair.subject in part or NOUNS[pair.subject] in part for part in story)
            endings[name] |= {" ".join(part.rsplit(" ", 2)[-2:]) for part in story[1:]}
    assert not endings["bright"] & endings["gloomy"]
    assert min(map(len, endings.values())) >= 8


def test_stories_use_words_of_the_corpus():
    tokenizer = Tokenizer.from_file(
        str(Path(trialplate.models.__file__).parent / "embedded" / "neox-tiny" / "tokenizer.json")
    )
    for pair in contrastive_pairs(112):
        for part in (*pair.first, *pair.second):
            assert len(tokenizer.encode(part).ids) <= len(part.split()) + 4  # words are single tokens, nearly all


def test_files_of_pairs(rows):
    row = {"subject": "rain", "story1": "It rained, hurrah.", "story2": "It rained, alas.", "id": 7}
    (found,) = read_pairs(rows(row, row))
    assert (found.subject, found.story1, found.story2) == ("rain", "It rained, hurrah.", "It rained, alas.")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"subject": "x", "story1": "a"}, r"pairs.jsonl:2: `story2`: wanted a string, got no such key"),
        ({"subject": "x", "story1": "a", "story2": "a"}, r":2: `story2`: wanted another story"),
        ({"subject": "", "story1": "a", "story2": "b"}, r":2: `subject`"),
        ({"subject": "x", "story1": " ", "story2": "b"}, r":2: `story1`: wanted a story"),
        ("[]", r":2: wanted one JSON object"),
    ],
)
def test_a_bad_row_names_its_line(row, said, rows):
    with pytest.raises(FormatError, match=said):
        read_pairs(rows({"subject": "x", "story1": "a", "story2": "b"}, row))


def test_an_empty_file_is_no_result(rows):
    with pytest.raises(FormatError, match="no pair in it"):
        read_pairs(rows("# nothing"))
