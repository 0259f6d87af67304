"""Absorption of coders: planted hierarchies with coders made by hand, and prompts about first letters."""

import numpy as np
import pytest
import torch
from tests.sae.coders import random_coder

from trialplate.metrics.absorption import Rules
from trialplate.metrics.logistic import Probe
from trialplate.sae.absorption import (
    Spelling,
    absorption_of,
    first_letter_absorption,
    planted_absorption,
    saebench_details,
    single_token_words,
    spelled,
)
from trialplate.sae.coder import Coder
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import CoderError
from trialplate.sae.saebench_json import saebench_result
from trialplate.tasks.planted_dictionaries import planted

G, D = 32, 40


@pytest.fixture(scope="module")
def rows():
    """Two parents with fifteen children each: a child is so rare that its latent is no split of the parent's."""
    return planted("hierarchical", G, D, 6000, 1.2, np.random.default_rng(0), group=16, together=0.5, orthogonal=True)


def coder(planted_rows, absorbed=()):
    """A latent for every feature, read and written along its direction. The latent of a parent with absorbed children is silent where one fires: it
    reads minus the child; the child's latent writes the parent too."""
    made = Coder(CoderConfig("relu", D, G, centre_input=False))
    directions = torch.from_numpy(planted_rows.features)
    with torch.no_grad():
        made.encoder.copy_(directions)
        made.W_dec.copy_(directions)
        for child in absorbed:
            parent = int(planted_rows.parents[child])
            made.encoder[parent] -= 10 * directions[child]
            made.W_dec[child] += directions[parent]
        made.b_enc.fill_(-0.05)  # rounding of orthogonal directions is no firing
    return made.eval().requires_grad_(False)


def test_a_clean_coder_absorbs_nothing(rows):
    found = planted_absorption(coder(rows), rows)
    assert set(found.parents) == {"feature 0", "feature 16"}
    assert [parent.split for parent in found.parents.values()] == [(0,), (16,)]
    assert found.full.value == found.fraction.value == 0


def test_planted_absorption_scores_one_on_the_absorbed_children(rows):
    absorbed = (3, 7)  # children of feature 0
    found = planted_absorption(coder(rows, absorbed), rows)
    parent, other = found.parents["feature 0"], found.parents["feature 16"]
    planted_on = (rows.codes[3000:][parent.words][:, absorbed] > 0).any(axis=1)
    assert planted_on.sum() > 20
    assert parent.full[~planted_on].sum() == 0
    # sizes of parent and child are drawn apart, so a small child may carry less than 0.4 of a large parent
    sizes = rows.codes[3000:][parent.words]
    carried = sizes[:, absorbed].max(axis=1) - 0.05 >= 0.4 * sizes[:, 0]
    assert (parent.full[planted_on] == carried[planted_on]).all()
    assert (parent.fractions[planted_on] == carried[planted_on]).all()
    assert other.full.sum() == 0
    assert found.full.value == pytest.approx(parent.full.mean() / 2)


def test_other_kinds_have_no_parents():
    with pytest.raises(ValueError, match="'independent' has no parents"):
        planted_absorption(random_coder(), planted("independent", 8, 8, 20, 1.0, np.random.default_rng(0)))


def test_a_transcoder_is_refused(rows):
    transcoder = random_coder("relu", D, G, site_in="L0.resid_pre", site_out="L0.mlp_out")
    with pytest.raises(CoderError, match="a transcoder writes another site"):
        planted_absorption(transcoder, rows)


def test_probes_are_fitted_where_none_are_given(rows):
    labels = {"feature 0": rows.codes[:, 0] > 0}
    args = (
        rows.x[:3000],
        {k: v[:3000] for k, v in labels.items()},
        rows.x[3000:],
        {k: v[3000:] for k, v in labels.items()},
    )
    fitted = absorption_of(coder(rows, (3,)), *args)
    given = absorption_of(coder(rows, (3,)), *args, probes={"feature 0": Probe(rows.features[0].astype(float), -0.25)})
    assert fitted.parents["feature 0"].probe_f1 > 0.95
    assert 0 < fitted.full.value <= given.full.value


# --- first letters -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer():
    from pathlib import Path

    import trialplate.models
    from trialplate.models.tokenizers import load_tokenizer

    return load_tokenizer(Path(trialplate.models.__file__).parent / "embedded" / "neox-tiny")


def test_words_are_single_tokens(tokenizer):
    words = single_token_words(tokenizer)
    assert {"hospital", "monkeys", "capital"} <= set(words)
    assert "Paris" not in words
    assert all(len(tokenizer.encode(f" {word}")) == 1 for word in words)
    assert len(set(words)) == len(words)


def test_a_prompt_asks_about_its_word(tokenizer):
    words = ["hospital", "monkeys", "capital", "zoo"]
    found = spelled(tokenizer, words, np.random.default_rng(0), Spelling(n_examples=2))
    for word, ids, position in zip(found.words, found.ids, found.positions, strict=True):
        lines = tokenizer.decode(ids).split("\n")
        assert lines[-1] == f" {word} has the first letter:"
        assert len(lines) == 3
        for line in lines[:-1]:
            example, letter = line[1:].split(" has the first letter: ")
            assert example in words
            assert example != word
            assert letter == example[0].upper()
        assert tokenizer.decode([ids[position]]) == f" {word}"
        assert position == len(ids) - 6  # the token of the word, as in the published evaluation
    assert found.letters.tolist() == ["h", "m", "c", "z"]


def test_words_that_cannot_be_asked_about(tokenizer):
    with pytest.raises(ValueError, match="'abracadabra' is not one token"):
        spelled(tokenizer, ["abracadabra", "zoo"], np.random.default_rng(0), Spelling(n_examples=1))
    with pytest.raises(ValueError, match="want more words than 2"):
        spelled(tokenizer, ["zoo", "bank"], np.random.default_rng(0))


class Speller:
    """What `first_letter_absorption` asks of a model whose activations are given."""

    label = "a speller"

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer


def test_first_letters_of_a_model_that_can_spell(tokenizer, monkeypatch):
    """Activations that are the letter, and a coder with a latent for each of the 26: nothing is absorbed, and rare letters are named."""

    def activations(model, point, found):
        noise = np.random.default_rng(0).normal(size=(len(found.words), 26)).astype(np.float32)
        return np.eye(26, dtype=np.float32)[[ord(letter) - 97 for letter in found.letters]] * 3 + 0.05 * noise

    monkeypatch.setattr("trialplate.sae.absorption.word_activations", activations)
    letters = Coder(CoderConfig("relu", 26, 26, centre_input=False))
    with torch.no_grad():
        letters.encoder.copy_(torch.eye(26))
        letters.W_dec.copy_(torch.eye(26))
        letters.b_enc.fill_(-1)
    spelling, rules = Spelling(n_examples=2), Rules(min_words=10)
    found = first_letter_absorption(
        Speller(tokenizer), None, letters, np.random.default_rng(0), spelling=spelling, rules=rules
    )
    assert len(found.parents) >= 5
    assert all(parent.split == (ord(letter) - 97,) for letter, parent in found.parents.items())
    assert found.full.value == found.fraction.value == 0
    assert "to train on, wanted 10 and 2" in found.left_out["z"]
    saebench_result(
        "absorption_first_letter",
        {},
        {"mean": found.saebench()},
        saebench_details(found),
        coder=letters.config,
        release="r",
        sae_id="i",
    )
    with pytest.raises(ValueError, match="no letter begins 1000 test words"):
        first_letter_absorption(
            Speller(tokenizer), None, letters, np.random.default_rng(0), spelling=spelling, rules=Rules(min_words=1000)
        )
