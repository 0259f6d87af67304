"""Probes: the same items for the same seed, right answers worked out by hand, nothing asked that was trained."""

from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from tokenizers import Tokenizer

import trialplate.models
from trialplate.tasks.corpus import documents
from trialplate.tasks.document import split_of
from trialplate.tasks.items import items_digest
from trialplate.tasks.lexicon import COUNTRIES, NAMES, words
from trialplate.tasks.probes import agreement, arithmetic, facts, greater_than, induction, ioi
from trialplate.tasks.probes.minimal_pairs import minimal_pairs


def characters(text):
    return [ord(character) for character in text]


@pytest.fixture(scope="module")
def encode():
    folder = Path(trialplate.models.__file__).parent / "embedded" / "neox-tiny"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return lambda text: tokenizer.encode(text).ids


@pytest.fixture(scope="module")
def trained_text():
    """Every fourth part of the corpus is enough to catch a rule that does not hold things out."""
    return {document.text for document in islice(documents(0), 25_000)}


PROBES = {
    "ioi": lambda encode, seed: ioi.ioi_items(encode, 40, seed),
    "ioi_held_out": lambda encode, seed: ioi.ioi_items(encode, 40, seed, template="held_out"),
    "greater_than": lambda encode, seed: greater_than.greater_than_items(encode, 40, seed),
    "add": lambda encode, seed: arithmetic.arithmetic_items(encode, 40, seed, operation="add"),
    "sub_99_held_out": lambda encode, seed: arithmetic.arithmetic_items(
        encode, 40, seed, operation="sub", largest=99, split="heldout"
    ),
    "capitals": lambda encode, seed: facts.capital_items(encode, 40, seed),
    "languages": lambda encode, seed: facts.fact_items(encode, 40, seed, relation="language"),
    "agreement_plain": lambda encode, seed: agreement.agreement_items(encode, 40, seed, attractor=False),
    "agreement_attractor": lambda encode, seed: agreement.agreement_items(encode, 40, seed, attractor=True),
}


@pytest.mark.parametrize("probe", sorted(PROBES))
def test_probe_is_a_function_of_its_seed(probe, encode):
    items = PROBES[probe](encode, 7)
    assert len(items) == 40
    assert len({item.id for item in items}) == 40
    assert items_digest(items) == items_digest(PROBES[probe](encode, 7))
    assert items_digest(items) != items_digest(PROBES[probe](encode, 8))


@pytest.mark.parametrize("probe", sorted(PROBES))
def test_probe_shape(probe, encode):
    for item in PROBES[probe](encode, 0):
        assert item.answer not in item.foils
        assert len(set(item.foils)) == len(item.foils) >= 1
        assert all(len(encode(foil)) == len(encode(item.answer)) for foil in item.foils)
        assert encode(item.prompt + item.answer) == encode(item.prompt) + encode(item.answer)
        assert item.group


@pytest.mark.parametrize("probe", ["ioi", "ioi_held_out", "greater_than", "sub_99_held_out", "agreement_attractor"])
def test_held_out_items_are_not_in_the_corpus(probe, encode, trained_text):
    prompts = {item.prompt + item.answer for item in PROBES[probe](encode, 3)}
    assert not [text for text in trained_text if any(text.startswith(prompt) for prompt in prompts)]


def test_trained_items_are_in_the_corpus(encode, trained_text):
    capitals = facts.capital_items(encode, None, 0)
    assert sum(f"{item.prompt}{item.answer}." in trained_text for item in capitals) > 0.95 * len(capitals)


def test_ioi_comes_in_fours(encode):
    four = ioi.ioi_items(encode, 4, 5)
    assert Counter(item.meta["order"] for item in four) == {"ABBA": 2, "BABA": 2}
    assert len({item.answer for item in four}) == 2
    assert {(item.answer, item.foils[0]) for item in four} == {
        (a, b) for a in {i.answer for i in four} for b in {i.answer for i in four} if a != b
    }


def test_ioi_prompt_by_hand():
    scene = ioi.Draw(0, ("Mary", "John"), "park", "map")
    assert scene.prompt("John", "ABBA") == "When Mary and John went to the park, John gave a map to"
    assert scene.prompt("John", "BABA") == "When John and Mary went to the park, John gave a map to"
    assert scene.answer("John") == "Mary"
    assert scene.answer("Mary") == "John"


def test_held_out_template_has_known_words_in_a_new_order():
    known = {word.strip(",.") for template in ioi.TRAINED_TEMPLATES for word in template.split()}
    assert {word.strip(",.") for word in ioi.HELD_OUT_TEMPLATE.split()} <= known
    assert not any(ioi.HELD_OUT_TEMPLATE.startswith(template) for template in ioi.TRAINED_TEMPLATES)


def test_ioi_needs_names():
    with pytest.raises(ValueError, match="ioi: wanted at least 20 names that are single tokens, got 0 of 111"):
        ioi.ioi_items(characters, 4, 0)


@pytest.mark.parametrize(("operation", "a", "b", "answer"), [("add", 7, 15, 22), ("sub", 20, 4, 16), ("sub", 3, 3, 0)])
def test_arithmetic_by_hand(operation, a, b, answer):
    assert arithmetic.result_of(operation, a, b) == answer
    assert arithmetic.prompt_of("sub", 20, 4) == "20 - 4 ="


def test_arithmetic_splits_partition_the_pairs(encode):
    train, heldout = (arithmetic.pairs("add", 20, split) for split in ("train", "heldout"))
    assert len(train) + len(heldout) == 21 * 21
    assert not set(train) & set(heldout)
    assert 20 < len(heldout) < 70
    assert len(arithmetic.arithmetic_items(encode, None, 0, operation="add", split="heldout")) == len(heldout)
    assert all(a >= b for a, b in arithmetic.pairs("sub", 20, "train"))
    with pytest.raises(ValueError, match=r"arithmetic add 0..2 train: asked for 10 items, only \d exist"):
        arithmetic.arithmetic_items(encode, 10, 0, operation="add", largest=2)


def test_arithmetic_foils_by_hand(encode):
    items = arithmetic.arithmetic_items(encode, None, 0, operation="add", largest=9)
    by_sum = {item.answer: item.foils for item in items}
    assert by_sum[" 12"] == (" 2", " 10", " 11", " 13", " 14", " 22")
    assert by_sum[" 1"] == (" 0", " 2", " 3", " 11")


def test_capitals_hold_one_phrasing_of_each_country_out(encode):
    held_out = facts.capital_items(encode, None, 0, split="heldout")
    assert len(held_out) == len(COUNTRIES) == 61
    assert len(facts.capital_items(encode, None, 0)) == 61 * 7
    per_template = Counter(item.meta["template"] for item in held_out)
    assert set(per_template) == set(range(8))
    assert max(per_template.values()) <= 8


def test_no_phrasing_begins_another_or_begins_with_its_subject():
    for templates in facts.RELATIONS.values():
        for a in templates:
            assert not a.startswith("{")
            assert not any(a != b and b.startswith(a) for b in templates)


def test_capital_by_hand(encode):
    items = [
        i for i in facts.capital_items(encode, None, 0) if i.meta["country"] == "France" and i.meta["template"] == 1
    ]
    (item,) = items
    assert (item.prompt, item.answer, item.group) == ("The capital city of France is called", " Paris", "France")
    assert len(item.foils) == 60
    assert " Rome" in item.foils


def test_foils_match_the_length_of_the_answer_in_any_tokenizer():
    items = facts.capital_items(characters, None, 0)
    assert items
    assert all(len(foil) == len(item.answer) for item in items for foil in item.foils)


def test_agreement_by_hand():
    clause = agreement.Clause("dog", True, "is", "tree", False, "near")
    assert (clause.prompt, clause.right, clause.wrong) == ("The dogs near the tree", "are", "is")
    assert agreement.Clause("child", False, "sleeps").prompt == "The child"


def test_an_attractor_has_the_other_number(encode):
    for item in agreement.agreement_items(encode, 50, 0, attractor=True):
        subject, attractor = item.prompt.split()[1], item.prompt.split()[-1]
        plural = set(agreement.NOUNS.values())
        assert (subject in plural) != (attractor in plural)
        assert (subject in plural) == item.meta["plural"]


def test_agreement_needs_verbs():
    with pytest.raises(ValueError, match="wanted verbs whose two forms are single tokens"):
        agreement.agreement_items(characters, 4, 0, attractor=False)


def test_years_stay_inside_their_century(encode):
    for item in greater_than.greater_than_items(encode, 100, 0):
        year, century = item.meta["year"], item.meta["century"]
        assert 2 <= year <= 97
        assert f"year {century}{year:02d}" in item.prompt
        assert item.prompt.endswith(f"the year {century}")
        assert (item.answer, item.foils) == (f"{year + 1:02d}", (f"{year - 1:02d}",))


def test_year_tokens(encode):
    ids = greater_than.year_token_ids(encode)
    assert len(set(ids)) == 100
    assert encode("1732")[-1] == ids[32]
    with pytest.raises(ValueError, match="greater_than: needs two-digit year tokens"):
        greater_than.year_token_ids(characters)


@pytest.mark.parametrize("prefix", [None, 0])
def test_induction_repeats(encode, prefix):
    for sequence in induction.induction_over_words(encode, 5, 0, length=10, prefix_id=prefix):
        assert sequence.offset == (prefix is not None)
        body = sequence.ids[sequence.offset :]
        assert body[:10] == body[10:]
        assert len(set(body)) == 10
        assert all(sequence.ids[p] == sequence.ids[p - 10] for p in sequence.second_half_targets)
        assert len(sequence.second_half_targets) == len(sequence.first_half_targets) == 9
        assert sequence.second_half_targets.stop == len(sequence.ids)


def test_induction_over_a_vocabulary_leaves_out_what_it_is_told():
    sequences = induction.induction_over_vocabulary(6, 20, 0, length=4, excluded=(0, 5))
    assert {token for sequence in sequences for token in sequence.ids} == {1, 2, 3, 4}
    assert sequences == induction.induction_over_vocabulary(6, 20, 0, length=4, excluded=(0, 5))
    with pytest.raises(ValueError, match="a block of 5 different tokens cannot be drawn from 4 tokens"):
        induction.induction_over_vocabulary(6, 1, 0, length=5, excluded=(0, 5))
    with pytest.raises(ValueError, match="length at least 2"):
        induction.induction_over_vocabulary(6, 1, 0, length=1)


def test_every_word_of_the_lexicon_is_a_token(encode):
    assert len(induction.word_ids(encode)) == len(words())
    assert set(NAMES) <= set(words())


def test_minimal_pairs_differ_in_one_word():
    pairs = minimal_pairs(20, 0)
    assert Counter(pair.uid for pair in pairs) == {
        "agreement_plain": 20,
        "agreement_attractor": 20,
        "determiner_noun": 20,
    }
    for pair in pairs:
        good, bad = pair.good.split(), pair.bad.split()
        assert len(good) == len(bad)
        assert sum(a != b for a, b in zip(good, bad, strict=True)) == 1
    assert pairs == minimal_pairs(20, 0) != minimal_pairs(20, 1)
    with pytest.raises(ValueError, match="wanted n_each = 5000 of agreement_plain"):
        minimal_pairs(5000, 0)


def test_split_is_a_tenth_and_never_changes():
    # frozen: what a trained model has seen depends on it
    heldout = [key for key in range(10_000) if split_of(str(key)) == "heldout"]
    assert 900 < len(heldout) < 1100
    assert heldout[:5] == [11, 46, 70, 74, 76]
