"""Means over the kept tokens of a text: those of each text alone, encoded token by token."""

import numpy as np
import pytest
import torch
from tests.activations.families import ids, tiny
from tests.sae.coders import random_coder

from trialplate.activations.capture import captured
from trialplate.activations.errors import CaptureError
from trialplate.activations.sites import resolve
from trialplate.sae.errors import CoderError
from trialplate.sae.pooled import RAW, pool, pool_texts, special_ids, text_ids

END = 256


@pytest.fixture(scope="module")
def model():
    return tiny("gpt_neox")


@pytest.fixture(scope="module")
def point(model):
    return resolve(model, "L1.resid_post")


def texts(*lengths):
    return [ids(1, n, seed=n)[0].tolist() for n in lengths]


def alone(model, point, text, skip=()):
    """Activations [t, d] of the kept tokens of one text."""
    kept = [i for i, token in enumerate(text) if token not in skip]
    return captured(model, torch.tensor([text]), [point])[point.name][0][kept]


@pytest.mark.parametrize("architecture", ["topk", "relu"])
def test_means_are_those_of_each_text_alone(model, point, architecture):
    documents = texts(9, 3, 17, 5, 17)
    coder = random_coder(architecture, 32, 48)
    found = pool(model, point, {"mine": coder}, documents, skip=())
    for number, text in enumerate(documents):
        x = alone(model, point, text)
        np.testing.assert_allclose(found.means[RAW][number], x.mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.means["mine"][number], coder.encode(x).dense().mean(0), rtol=1e-4, atol=1e-5)
    assert found.n_tokens.tolist() == [9, 3, 17, 5, 17]


def test_latents_are_averaged_and_not_activations(model, point):
    """The code of a mean is another thing than the mean of a code."""
    (text,) = texts(12)
    coder = random_coder("topk", 32, 48)
    found = pool_texts(model, point, coder, [text], skip=())
    assert (found[0] != 0).sum() > coder.config.k  # twelve tokens of four latents each
    assert (coder.encode(alone(model, point, text).mean(0, keepdim=True)).dense() != 0).sum() == coder.config.k


def test_special_tokens_are_read_and_not_counted(model, point):
    one, other = texts(6, 8)
    joined = [*one, END, *other]
    found = pool(model, point, {}, [joined])
    assert special_ids(model) == (END,)
    np.testing.assert_allclose(found.means[RAW][0], alone(model, point, joined, (END,)).mean(0), rtol=1e-4, atol=1e-5)
    assert found.n_tokens.tolist() == [14]
    assert pool(model, point, {}, [joined], skip=()).n_tokens.tolist() == [15]


def test_small_pieces_of_a_batch_change_nothing(model, point, monkeypatch):
    documents, coder = texts(9, 3, 17), random_coder("topk", 32, 48)
    whole = pool_texts(model, point, coder, documents)
    monkeypatch.setattr("trialplate.sae.pooled._ENTRIES", 48 * 2)
    np.testing.assert_allclose(pool_texts(model, point, coder, documents), whole, rtol=1e-5, atol=1e-7)


def test_long_texts_are_cut(model, point):
    (text,) = texts(20)
    assert pool(model, point, {}, [text], skip=(), max_length=7).n_tokens.tolist() == [7]


def test_parts_are_joined_by_the_end_of_text(model):
    assert text_ids(model, [("ab", "c"), ("d",)]) == [[97, 98, END, 99], [100]]


def test_what_cannot_be_pooled_is_refused(model, point):
    with pytest.raises(CoderError, match="1 of 2 texts have no token that is kept, first 1"):
        pool(model, point, {}, [*texts(4), [END]])
    with pytest.raises(CoderError, match="'raw' is the name"):
        pool(model, point, {RAW: random_coder("topk", 32, 48)}, texts(4))
    with pytest.raises(CoderError, match=r"wanted activations \[n, 16\]"):
        pool(model, point, {"a": random_coder("topk", 16, 48)}, texts(4))
    with pytest.raises(CaptureError, match="no documents"):
        pool(model, point, {}, [])
