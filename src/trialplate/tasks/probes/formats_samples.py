"""Rows in the raw formats of LAMBADA, PIQA, ARC, SciQ and BLiMP, about the world of the corpus.

The public sets are not ours to ship; these rows have their fields and their shape, so that a reader of such files has something to
read offline, phrased so that a model trained on the corpus has a fair chance. They say nothing about the public sets' scores.
"""

from __future__ import annotations

from random import Random
from typing import Any

from trialplate.tasks import texture
from trialplate.tasks.lexicon import COUNTRIES
from trialplate.tasks.probes import facts, ioi
from trialplate.tasks.probes.minimal_pairs import MinimalPair, minimal_pairs

Row = dict[str, Any]

QUESTION_TEMPLATE: dict[facts.Relation, int] = {"capital": 4, "reverse": 1, "language": 1, "continent": 1}
"""Index of the phrasing of each relation that is a question with `Answer:` behind it."""

_UIDS = {
    "agreement_plain": ("morphology", "subject_verb_agreement"),
    "agreement_attractor": ("morphology", "subject_verb_agreement"),
    "determiner_noun": ("morphology", "determiner_noun_agreement"),
}


def lambada_rows(n: int, seed: int) -> list[Row]:
    """n passages {"text"} whose last word (no full stop behind it) follows from the passage: a person or a thing named before."""
    _at_least_one(n)
    rng = Random(f"lambada_rows:{seed}")
    drawn = (texture.dialogue(rng, "heldout") if number % 2 else ioi.document(rng, "heldout") for number in range(n))
    return [{"text": document.prompt + document.answer} for document in drawn]


def piqa_rows(n: int, seed: int) -> list[Row]:
    """n rows {"goal", "sol1", "sol2", "label"} about languages and continents; label 0 or 1 names the right solution. n <= 122."""
    rng = Random(f"piqa_rows:{seed}")
    rows = []
    for goal, right, wrong, _ in _questions(rng, n, ("language", "continent"), n_wrong=1):
        label = rng.randrange(2)
        first, second = (right, wrong[0]) if label == 0 else (wrong[0], right)
        rows.append({"goal": goal, "sol1": first, "sol2": second, "label": label})
    return rows


def arc_rows(n: int, seed: int) -> list[Row]:
    """n rows {"id", "question", "choices": {"text", "label"}, "answerKey"}: four choices A to D, about capitals. n <= 122."""
    rng = Random(f"arc_rows:{seed}")
    rows = []
    for number, (question, right, wrong, _) in enumerate(_questions(rng, n, ("capital", "reverse"), n_wrong=3)):
        texts = [right, *wrong]
        rng.shuffle(texts)
        choices = {"text": texts, "label": list("ABCD")}
        rows.append(
            {
                "id": f"world_{seed}_{number}",
                "question": question,
                "choices": choices,
                "answerKey": "ABCD"[texts.index(right)],
            }
        )
    return rows


def sciq_rows(n: int, seed: int) -> list[Row]:
    """n rows {"question", "distractor1".."distractor3", "correct_answer", "support"}; support is the fact as a sentence. n <= 183."""
    rng = Random(f"sciq_rows:{seed}")
    rows = []
    for question, right, wrong, support in _questions(rng, n, ("capital", "language", "continent"), n_wrong=3):
        distractors = {f"distractor{place}": text for place, text in enumerate(wrong, start=1)}
        rows.append({"question": question, **distractors, "correct_answer": right, "support": support})
    return rows


def minimal_pair_rows(n: int, seed: int) -> list[Row]:
    """n rows with BLiMP's fields, the three phenomena (UID) in turn, so that each has n // 3 of them or one more."""
    _at_least_one(n)
    each = -(-n // 3)
    pairs = minimal_pairs(each, seed)
    by_turn = [pairs[phenomenon * each + number] for number in range(each) for phenomenon in range(3)][:n]
    return [_blimp_row(pair, number) for number, pair in enumerate(by_turn)]


def _blimp_row(pair: MinimalPair, number: int) -> Row:
    field, term = _UIDS[pair.uid]
    row: Row = {"sentence_good": pair.good, "sentence_bad": pair.bad, "field": field, "linguistics_term": term}
    return {**row, "UID": pair.uid, "simple_LM_method": True, "lexically_identical": False, "pairID": str(number)}


def _questions(
    rng: Random, n: int, relations: tuple[facts.Relation, ...], *, n_wrong: int
) -> list[tuple[str, str, list[str], str]]:
    """n different (question, right answer, wrong answers of the same type, the fact as a sentence)."""
    _at_least_one(n)
    every = [(relation, country) for relation in relations for country in COUNTRIES]
    if n > len(every):
        raise ValueError(
            f"wanted n = {n} different questions about {', '.join(relations)}, only {len(every)} exist; ask for fewer"
        )
    rows = []
    for relation, country in rng.sample(every, n):
        right = facts.value_of(relation, country)
        others = sorted({facts.value_of(relation, other) for other in COUNTRIES} - {right})
        prompt = facts.prompt_of(relation, country, QUESTION_TEMPLATE[relation])
        question = prompt.removeprefix("Question: ").removesuffix("\nAnswer:")
        rows.append((question, right, rng.sample(others, n_wrong), f"{facts.prompt_of(relation, country, 0)} {right}."))
    return rows


def _at_least_one(n: int) -> None:
    if n < 1:
        raise ValueError(f"asked for n = {n} rows, wanted at least 1")
