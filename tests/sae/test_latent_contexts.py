"""Firings with their surroundings: the strongest of all, an even sample, and windows that never reach into another document."""

import numpy as np
import pytest
import torch
from tests.activations.families import ids, tiny
from tests.sae.coders import random_coder

from trialplate.activations.batches import make_plan
from trialplate.activations.capture import captured, collect, plan_for
from trialplate.activations.sites import resolve
from trialplate.sae.latent_contexts import Contexts
from trialplate.sae.latent_tally import Tally, choose

SITE, END = "L1.resid_post", 256


@pytest.fixture(scope="module")
def model():
    return tiny("gpt_neox")


@pytest.fixture(scope="module")
def documents():
    made = [ids(1, n, seed=n)[0].tolist() for n in (5, 11, 13, 16, 19)]
    made[2][4] = END
    return made


@pytest.fixture(scope="module")
def coder():
    return random_coder("topk", 32, 40)


@pytest.fixture(scope="module")
def codes(model, documents, coder):
    """[tokens, m] of every document, with NaN on the token that is left out."""
    point = resolve(model, SITE)
    found = [
        coder.encode(captured(model, torch.tensor([text]), [point])[SITE][0]).dense().numpy() for text in documents
    ]
    found[2][4] = np.nan
    return found


def read(model, documents, collectors, positions=4096):
    plan = make_plan({"text": documents}, max_length=64, positions=positions, skip=[END])
    collect(model, plan, [resolve(model, SITE)], {("text", SITE): collectors})


def test_the_tally_is_that_of_the_whole_code(model, documents, coder, codes):
    tally, every = Tally(coder), np.concatenate(codes)
    read(model, documents, [tally])
    assert tally.n_tokens == 5 + 11 + 13 + 16 + 19 - 1
    np.testing.assert_array_equal(tally.fired, np.nansum(every != 0, 0) - 1)  # NaN is not 0, and is no firing
    np.testing.assert_allclose(tally.mass, np.nansum(np.abs(every), 0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(tally.most, np.nanmax(np.abs(every), 0), rtol=1e-4, atol=1e-5)


def test_small_pieces_of_a_batch_change_nothing(model, documents, coder, monkeypatch):
    whole, pieces = Tally(coder), Tally(coder)
    read(model, documents, [whole])
    monkeypatch.setattr("trialplate.sae.latent_tally._ENTRIES", 40 * 3)
    read(model, documents, [pieces], positions=20)
    np.testing.assert_array_equal(pieces.fired, whole.fired)
    np.testing.assert_allclose(pieces.mass, whole.mass, rtol=1e-4)


@pytest.mark.parametrize("positions", [4096, 20])  # one batch, and a document a batch
def test_the_strongest_are_the_strongest_of_each_document(model, documents, coder, codes, positions):
    latent = int(np.argmax([sum(np.nanmax(code[:, j]) > 0 for code in codes) for j in range(40)]))
    contexts = Contexts(coder, [latent], top=3, width=4, seed=0)
    read(model, documents, [contexts], positions)
    best = sorted(
        (
            (float(np.nanmax(code[:, latent])), number)
            for number, code in enumerate(codes)
            if np.nanmax(code[:, latent]) > 0
        ),
        reverse=True,
    )[:3]
    found = contexts.strongest(0)
    assert [one.document for one in found] == [number for _, number in best]
    np.testing.assert_allclose([one.value for one in found], [value for value, _ in best], rtol=1e-4)
    for one in found:
        padded = np.full(len(codes[one.document]) + 8, np.nan)
        padded[4:-4] = codes[one.document][:, latent]
        np.testing.assert_allclose(one.window, padded[one.position : one.position + 9], rtol=1e-4, atol=1e-6)


def test_quantiles_are_of_all_firings_where_these_are_few(model, documents, coder, codes):
    every = np.concatenate(codes)
    latent = int(np.nanargmax(np.nansum(every > 0, 0)))
    sizes = np.sort(every[every[:, latent] > 0, latent])
    contexts = Contexts(coder, [latent], top=2, width=1, seed=0)
    read(model, documents, [contexts])
    found = contexts.quantiles(0)
    assert [q for q, _ in found] == [0.9, 0.7, 0.5, 0.3, 0.1]
    wanted = [sizes[round(q * (len(sizes) - 1))] for q, _ in found]
    np.testing.assert_allclose([one.value for _, one in found], wanted, rtol=1e-4)


def test_the_sample_is_even_however_batches_are_cut(model, documents, coder, codes, monkeypatch):
    monkeypatch.setattr("trialplate.sae.latent_contexts.SAMPLE", 4)
    latents = np.argsort([-(np.nan_to_num(np.concatenate(codes)[:, j]) > 0).sum() for j in range(40)])[:2].tolist()
    one, other, another = (Contexts(coder, latents, top=2, width=1, seed=s) for s in (0, 0, 1))
    read(model, documents, [one, another])
    read(model, documents, [other], positions=20)

    def places(contexts):
        return [(f.document, f.position) for n in (0, 1) for _, f in contexts.quantiles(n)]

    assert places(one) == places(other)
    assert places(one) != places(another)


def test_a_latent_that_never_fires_has_no_context(model, documents):
    coder = random_coder("relu", 32, 4)
    coder.b_enc[1] = -1e6
    contexts = Contexts(coder, [1], top=2, width=1, seed=0)
    read(model, documents, [contexts])
    assert contexts.strongest(0) == []
    assert contexts.quantiles(0) == []


def test_half_are_the_largest_and_half_are_drawn_from_the_rest(model, documents, coder):
    tally = Tally(coder)
    collect(model, plan_for(model, {"text": documents}), [resolve(model, SITE)], {("text", SITE): [tally]})
    found = choose(tally, 7, np.random.default_rng(0))
    order = [int(j) for j in np.argsort(-tally.mass, kind="stable")]
    assert [j for j, why in found.items() if why == "mass"] == order[:4]
    drawn = [j for j, why in found.items() if why == "sample"]
    assert len(set(drawn) - set(order[:4])) == 3
    alive = int((tally.fired > 0).sum())
    assert len(choose(tally, 1000, np.random.default_rng(0))) == alive
