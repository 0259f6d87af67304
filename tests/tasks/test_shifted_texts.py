"""Texts of a shift: classes balanced, groups of the test never trained on, pairs of one content, and a file of one's own."""

import json
from collections import Counter

import pytest

from trialplate.tasks.jsonl import RowError
from trialplate.tasks.lexicon import COUNTRIES, NOUNS
from trialplate.tasks.shifted_texts import LARGEST, SHIFTS, read_shift, shifted_texts


@pytest.mark.parametrize("name", SHIFTS)
def test_classes_are_balanced_and_texts_are_different(name):
    n = LARGEST[name]
    found = shifted_texts(name, n, seed=3)
    for part, size in ((found.train, n), (found.valid, n // 2), (found.source, n // 2), (found.target, n // 2)):
        assert Counter(text.label for text in part) == {0: size // 2, 1: size // 2}
        assert all(text.text.endswith(".") for text in part)
    source = [text.text for part in (found.train, found.valid, found.source) for text in part]
    assert len(set(source)) == len(source)


@pytest.mark.parametrize("name", SHIFTS)
def test_no_group_of_the_test_is_trained_or_chosen_on(name):
    found = shifted_texts(name, 48, seed=0)
    train, valid, source = ({text.group for text in part} for part in (found.train, found.valid, found.source))
    assert not train & valid
    assert not (train | valid) & source


@pytest.mark.parametrize("name", SHIFTS)
def test_every_test_text_stands_in_both_domains(name):
    found = shifted_texts(name, 48, seed=0)
    assert found.paired
    for one, other in zip(found.source, found.target, strict=True):
        assert (one.label, one.group) == (other.label, other.group)
        assert one.text != other.text


def test_an_attractor_has_the_other_number_and_the_question_stays():
    for one, other in zip(*(getattr(shifted_texts("attractor", 80, 1), p) for p in ("source", "target")), strict=True):
        subject = NOUNS[one.group] if one.label else one.group
        assert one.text.startswith(f"The {subject} ")
        assert other.text.startswith(f"The {subject} ")
        rest = one.text.removeprefix(f"The {subject} ")
        assert other.text.endswith(f" {rest}")
        between = other.text.removeprefix(f"The {subject} ").removesuffix(f" {rest}").split()
        assert len(between) == 3  # near the doors
        singular = between[-1] in NOUNS
        assert singular == bool(one.label)


def test_phrasings_of_source_and_target_are_different_ones():
    found = shifted_texts("phrasing", 96, 0)

    def shapes(part):
        return {t.text.replace(t.group, "X").rpartition(" ")[0] for t in part if " " not in _capital(t.group)}

    assert not shapes((*found.train, *found.valid, *found.source)) & shapes(found.target)
    assert all((_continent(t.group) == "Europe") == bool(t.label) for t in found.target)


def _capital(name):
    return next(c.capital for c in COUNTRIES if c.name == name)


def _continent(name):
    return next(c.continent for c in COUNTRIES if c.name == name)


def test_every_seed_has_room_for_the_usual_number():
    assert LARGEST.keys() == SHIFTS.keys()
    for name, n in LARGEST.items():
        for seed in range(5):
            shifted_texts(name, n, seed)


def test_one_seed_gives_one_set_and_another_seed_another():
    one, same, other = (shifted_texts("attractor", 40, seed) for seed in (0, 0, 1))
    assert one == same
    assert one.digest != other.digest


@pytest.mark.parametrize(
    ("name", "n", "text"),
    [("attractor", 6, "a multiple of 4"), ("attractor", 0, "a multiple of 4"), ("none", 8, "no shift is named 'none'"), ("phrasing", 4000, "ask for fewer")],
)  # fmt: skip
def test_what_cannot_be_drawn_is_said(name, n, text):
    with pytest.raises(ValueError, match=text):
        shifted_texts(name, n, 0)


def rows(n_groups=20, **changes):
    """A source and a target text of both classes for every group."""
    return [
        {"text": f"{domain} {label} {group}", "label": label, "domain": domain, "group": f"g{group}", **changes}
        for group in range(n_groups)
        for label in (0, 1)
        for domain in ("source", "target")
    ]


def written(path, found):
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


def test_a_file_is_dealt_by_group(tmp_path):
    found = read_shift(written(tmp_path / "own.jsonl", rows()), seed=0)
    parts = [{text.group for text in part} for part in (found.train, found.valid, found.source, found.target)]
    assert [len(part) for part in parts] == [
        10,
        4,
        6,
        6,
    ]  # 50 %, 20 %, and the rest; the target only where nothing was trained on
    assert parts[2] == parts[3]
    assert not parts[2] & (parts[0] | parts[1])
    assert not found.paired


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"label": 2}, "integer from 0 to 1"),
        ({"domain": "other"}, "wanted one of source, target"),
        ({"text": ""}, "`text`"),
        ({"colour": 1}, "unknown key"),
        ({"label": None}, "wanted 0 or 1"),
    ],
)
def test_a_line_that_is_no_labelled_text_is_refused(tmp_path, row, text):
    with pytest.raises(RowError, match=text):
        read_shift(written(tmp_path / "own.jsonl", rows(2, **row)), 0)


def test_a_part_without_one_of_the_classes_is_refused(tmp_path):
    only = [row for row in rows() if row["label"] or row["domain"] == "source"]
    with pytest.raises(ValueError, match="the target test has 6 texts and not both classes"):
        read_shift(written(tmp_path / "own.jsonl", only), 0)
