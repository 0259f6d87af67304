"""Manifest lines that name a generator."""

import json
from dataclasses import replace

import pytest

from trialplate.tasks.generators import GENERATORS, generate, generator_of, unmet_needs
from trialplate.tasks.manifest import parse_manifest
from trialplate.tasks.requirements import REQUIREMENTS


def task(**source):
    line = {"task_id": "probe", "domain": "x", "version": 2, "source": {"type": "generator", **source}}
    return parse_manifest(json.dumps(line).encode(), "m.jsonl")[0]


def words(text):
    """One id a word with its space, pairs of digits apart: the tokenizer that suits every probe."""
    ids = []
    for word in text.split(" ")[0 if not text.startswith(" ") else 1 :]:
        pieces = [word[start : start + 2] for start in range(0, len(word), 2)] if word.isdigit() else [word]
        ids.extend(sum(ord(character) * 31**place for place, character in enumerate(piece)) % 10**9 for piece in pieces)
    return ids


def letters(text):
    return [ord(character) for character in text]


ITEM_MAKERS = [name for name, generator in GENERATORS.items() if generator.make]


@pytest.mark.parametrize("name", ITEM_MAKERS)
def test_items_follow_from_name_and_seed(name):
    items = generate(task(name=name, seed=1, num_docs=7), words)
    assert len(items) == 7
    assert len({item.id for item in items}) == 7
    assert all(item.foils and item.answer not in item.foils for item in items)
    assert generate(task(name=name, seed=1), words, 7) == items
    assert generate(task(name=name, seed=2), words, 7) != items


@pytest.mark.parametrize("name", ITEM_MAKERS)
def test_one_item_can_be_asked_for(name):
    assert len(generate(task(name=name), words, 1)) == 1


@pytest.mark.parametrize("name", ["induction_words", "induction_any"])
def test_sequences_are_not_items(name):
    with pytest.raises(ValueError, match="makes token sequences, not items"):
        generate(task(name=name), words)


@pytest.mark.parametrize("name", ["domain_code", "domain_reasoning"])
def test_texts_are_not_items(name):
    line = task(name=name, seed=4)
    with pytest.raises(ValueError, match=r"is a stimulus: it has texts \(`trialplate\.tasks\.stimuli\.texts`\)"):
        generate(line, words)
    with pytest.raises(ValueError, match=r"makes texts, not items; call trialplate\.tasks\.stimuli\.texts with seed=4"):
        generate(replace(line, kind="scored"), words)


def test_a_generator_of_items_read_as_a_stimulus_is_not_scored():
    with pytest.raises(ValueError, match="is a stimulus"):
        generate(replace(task(name="ioi"), kind="stimulus"), words)


def test_needs_are_known_requirements():
    for generator in GENERATORS.values():
        assert set(generator.requires) <= set(REQUIREMENTS)


def test_a_tokenizer_that_cannot_serve_is_refused_with_the_reason():
    greater_than = task(name="greater_than")
    assert unmet_needs(greater_than, words) == []
    assert any("two-digit year tokens" in reason for reason in unmet_needs(greater_than, letters))
    with pytest.raises(ValueError, match="cannot be made for this tokenizer: needs two-digit year tokens"):
        generate(greater_than, letters)


def test_an_unknown_generator_names_the_nearest():
    with pytest.raises(ValueError, match=r"names generator 'capital', which does not exist; did you mean `capitals`"):
        generator_of(task(name="capital"))


def test_items_in_the_line_need_no_generator():
    line = {
        "task_id": "a",
        "domain": "x",
        "version": 2,
        "items": [{"prompt": "1", "answer": "2"}, {"prompt": "2", "answer": "3"}],
    }
    scored = parse_manifest(json.dumps(line).encode(), "m.jsonl")[0]
    assert [item.prompt for item in generate(scored, letters)] == ["1", "2"]
    assert len(generate(scored, letters, 1)) == 1
    assert unmet_needs(scored, letters) == []


def test_a_stimulus_has_nothing_to_score():
    line = {"task_id": "a", "domain": "x", "source": {"type": "prompt", "text": "once"}}
    with pytest.raises(ValueError, match=r"is a stimulus: it has texts"):
        generate(parse_manifest(json.dumps(line).encode(), "m.jsonl")[0], letters)
