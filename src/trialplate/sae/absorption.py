"""Absorption of a coder: of first letters, on a model that can spell, and of planted parents, where the truth is known and no model is needed.

First letters: a word of the vocabulary stands at the end of a prompt, " cat has the first letter:", after a few solved examples; activations are read at
the word's own token. A letter is the parent, its words are the children. With weights that cannot spell the probes fail and letters are left out.
Planted parents: rows of `tasks.planted_dictionaries.planted("hierarchical", ...)`, whose children imply their parent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from trialplate.activations.batches import Tokens
from trialplate.activations.capture import collect, plan_for
from trialplate.activations.sites import Point
from trialplate.metrics.absorption import Absorption, Rules, absorption
from trialplate.metrics.logistic import Probe, fit_logistic
from trialplate.models.causal_lm import CausalLM
from trialplate.models.tokenizers import TokenizerAdapter
from trialplate.sae.coder import Coder
from trialplate.sae.errors import CoderError
from trialplate.tasks.planted_dictionaries import Planted

_LEAST_TRAINING_WORDS = 2


@dataclass(frozen=True, slots=True)
class Spelling:
    """The prompt: n_examples solved lines " WORD{question} LETTER", then " WORD{question}". Lines are encoded one by one and joined by line breaks, so
    that a word is one token whatever a tokenizer does with white space across lines."""

    question: str = " has the first letter:"
    n_examples: int = 10


@dataclass(frozen=True)
class SpelledWords:
    """Prompts about words: ids of each, and the position of the word in it."""

    words: tuple[str, ...]
    ids: tuple[tuple[int, ...], ...]
    positions: tuple[int, ...]

    @property
    def letters(self) -> np.ndarray:
        """The first letter of every word, [n]."""
        return np.array([word[0] for word in self.words])


def absorption_of(
    coder: Coder,
    train_x: Float[np.ndarray, "n d"],
    train_y: Mapping[str, ArrayLike],
    test_x: Float[np.ndarray, "t d"],
    test_y: Mapping[str, ArrayLike],
    *,
    probes: Mapping[str, Probe] | None = None,
    rules: Rules | None = None,
) -> Absorption:
    """Absorption of every parent in activations that the coder reads; labels by parent, [n] and [t] booleans.

    probes: where directions are known; otherwise logistic regressions on the training rows. CoderError for a transcoder: what it writes lies in
    another space than the directions. ValueError as `metrics.absorption.absorption`."""
    if coder.config.is_transcoder:
        raise CoderError(
            "absorption compares what latents write with what the site holds; a transcoder writes another site. Give an autoencoder"
        )
    found = probes or {name: fit_logistic(train_x, truth) for name, truth in train_y.items()}
    codes = [_codes(coder, rows) for rows in (train_x, test_x)]
    return absorption(codes[0], train_y, codes[1], test_y, test_x, coder.W_dec.detach().cpu().numpy(), found, rules)


def planted_absorption(coder: Coder, planted: Planted, rules: Rules | None = None) -> Absorption:
    """Absorption of every planted parent that has children. The first half of the rows shows which latents are main, the second half is scored.

    Directions of the probes are the planted ones, their thresholds fitted. ValueError for a dictionary without parents."""
    parents = sorted({int(parent) for parent in planted.parents if parent >= 0})
    if not parents:
        raise ValueError(f"a planted dictionary of kind {planted.kind!r} has no parents; plant 'hierarchical'")
    half = len(planted.x) // 2
    labels = {f"feature {parent}": planted.codes[:, parent] > 0 for parent in parents}
    probes = {name: _along(planted, parent, half) for name, parent in zip(labels, parents, strict=True)}
    train_y, test_y = (
        {name: truth[part] for name, truth in labels.items()} for part in (slice(half), slice(half, None))
    )
    return absorption_of(coder, planted.x[:half], train_y, planted.x[half:], test_y, probes=probes, rules=rules)


def first_letter_absorption(
    model: CausalLM,
    point: Point,
    coder: Coder,
    rng: np.random.Generator,
    *,
    words: Sequence[str] | None = None,
    test_share: float = 0.5,
    spelling: Spelling | None = None,
    rules: Rules | None = None,
) -> Absorption:
    """Absorption of first letters. words: to use (None: `single_token_words` of the tokenizer); test_share: of them that is scored, the others train.

    Letters with fewer test words than the rules want are left out before anything is fitted, and named. ValueError where no letter remains."""
    rules = rules or Rules()
    if not 0 < test_share < 1:
        raise ValueError(f"the share of words that is scored lies between 0 and 1, got {test_share}")
    found = spelled(model.tokenizer, words or single_token_words(model.tokenizer), rng, spelling)
    x = word_activations(model, point, found)
    order = rng.permutation(len(found.words))
    test, train = np.split(order, [round(test_share * len(order))])
    letters = found.letters
    few = _too_few(letters[train], letters[test], rules)
    kept = sorted(set(letters.tolist()) - few.keys())
    if not kept:
        raise ValueError(
            f"{model.label}: of {len(found.words)} words no letter begins {rules.min_words} test words; give more words"
        )
    train_y, test_y = ({letter: letters[rows] == letter for letter in kept} for rows in (train, test))
    scores = absorption_of(coder, x[train], train_y, x[test], test_y, rules=rules)
    return Absorption(scores.fraction, scores.full, scores.n_split, scores.parents, {**few, **scores.left_out})


def saebench_details(found: Absorption) -> list[dict[str, str | float | int]]:
    """One entry a letter, as SAEBench's `absorption_first_letter` has them; `Absorption.saebench` gives the means."""
    return [
        {
            "first_letter": letter,
            "mean_absorption_fraction": parent.fraction.value,
            "full_absorption_rate": parent.full_rate.value,
            "num_full_absorption": int(parent.full.sum()),
            "num_probe_true_positives": int(parent.words.size),
            "num_split_features": len(parent.split),
        }
        for letter, parent in found.parents.items()
    ]


def single_token_words(tokenizer: TokenizerAdapter) -> list[str]:
    """Lower-case words of at least two ASCII letters that are one token behind a space, in order of their ids."""
    texts = {i: tokenizer.decode([i]) for i in sorted(tokenizer.vocab.values())}
    likely = {i: text[1:] for i, text in texts.items() if text[:1] == " " and text[1:].isascii() and text[1:].isalpha()}
    return [
        word for i, word in likely.items() if len(word) > 1 and word.islower() and tokenizer.encode(f" {word}") == [i]
    ]


def spelled(
    tokenizer: TokenizerAdapter, words: Sequence[str], rng: np.random.Generator, spelling: Spelling | None = None
) -> SpelledWords:
    """A prompt about every word, with examples drawn from the others.

    ValueError for a word that is not one token, and for too few words to draw examples from."""
    spelling = spelling or Spelling()
    if len(set(words)) <= spelling.n_examples:
        raise ValueError(
            f"{spelling.n_examples} examples and a question want more words than {len(set(words))}; give more words or fewer examples"
        )
    breaks = tokenizer.encode("\n")
    rows, positions = [], []
    for word in words:
        drawn = [words[i] for i in rng.choice(len(words), spelling.n_examples + 1, replace=False)]
        ids: list[int] = []
        for other in [other for other in drawn if other != word][: spelling.n_examples]:
            ids += [*tokenizer.encode(f" {other}{spelling.question} {other[0].upper()}"), *breaks]
        positions.append(len(ids))
        rows.append((*ids, *_question(tokenizer, word, spelling.question)))
    return SpelledWords(tuple(words), tuple(rows), tuple(positions))


def word_activations(model: CausalLM, point: Point, found: SpelledWords) -> Float[np.ndarray, "n d"]:
    """Activations at the token of every word. ValueError for a prompt that is longer than the model reads."""
    longest = max(len(ids) for ids in found.ids)
    if longest > model.max_length:
        raise ValueError(
            f"{model.label} reads {model.max_length} tokens, a prompt has {longest}; ask with fewer examples"
        )
    collector = _AtPositions(found.positions)
    collect(model, plan_for(model, {"spelling": found.ids}), [point], {("spelling", point.name): [collector]})
    return torch.stack([collector.rows[number] for number in range(len(found.ids))]).numpy()


class _AtPositions:
    """A collector of one row of every document."""

    def __init__(self, positions: Sequence[int]) -> None:
        self.positions = torch.tensor(positions)
        self.rows: dict[int, Tensor] = {}

    def update(self, values: Float[Tensor, "n d"], tokens: Tokens) -> None:
        """Take the rows at the positions."""
        here = (tokens.position == self.positions[tokens.document]).nonzero().squeeze(1)
        rows = values[here.to(values.device)].float().cpu()
        self.rows.update(zip(tokens.document[here].tolist(), rows, strict=True))


@torch.no_grad()
def _codes(coder: Coder, rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n m"]:
    return coder.encode(torch.as_tensor(rows).to(coder.W_dec)).dense().cpu().numpy()


def _too_few(train: np.ndarray, test: np.ndarray, rules: Rules) -> dict[str, str]:
    """Letters without enough words, with the reason."""
    counts = {letter: (int((train == letter).sum()), int((test == letter).sum())) for letter in {*train, *test}}
    return {
        str(
            letter
        ): f"{n_test} words to test and {n_train} to train on, wanted {rules.min_words} and {_LEAST_TRAINING_WORDS}"
        for letter, (n_train, n_test) in sorted(counts.items())
        if n_test < rules.min_words or n_train < _LEAST_TRAINING_WORDS
    }


def _along(planted: Planted, parent: int, half: int) -> Probe:
    """A probe along a planted direction; where it says yes is fitted on the first half."""
    direction = planted.features[parent].astype(np.float64)
    fitted = fit_logistic((planted.x[:half] @ direction)[:, None], planted.codes[:half, parent] > 0)
    return Probe(fitted.weights[0] * direction, fitted.bias)


def _question(tokenizer: TokenizerAdapter, word: str, question: str) -> list[int]:
    ids = tokenizer.encode(f" {word}{question}")
    if ids[:1] != tokenizer.encode(f" {word}"):
        raise ValueError(f"the word {word!r} is not one token in front of {question!r} in this tokenizer; leave it out")
    return ids
