"""Probing, erasure and contrast of a coder on a model: one small model, texts of the generators, and what each must refuse."""

import numpy as np
import pytest
from tests.sae.coders import random_coder

from trialplate.activations.sites import resolve
from trialplate.metrics.contrastive import bound, contrastive
from trialplate.models.load import load
from trialplate.models.spec import ModelSpec
from trialplate.sae.contrastive import cebench, story_means
from trialplate.sae.erasure import coder_scr, coder_tpp
from trialplate.sae.errors import CoderError
from trialplate.sae.pooled import pool_texts, text_ids
from trialplate.sae.probing import probe_coder
from trialplate.sae.programs.results import plain
from trialplate.sae.saebench_json import saebench_result
from trialplate.tasks.contrastive_pairs import contrastive_pairs, pairs_digest
from trialplate.tasks.labelled_texts import labelled_texts

SIZES = {"train": 24, "valid": 10, "test": 12}


@pytest.fixture(scope="module")
def model():
    loaded = load(ModelSpec("embedded:neox-tiny"))
    yield loaded
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in loaded.module.modules()) == 0


@pytest.fixture(scope="module")
def point(model):
    return resolve(model, "L1.resid_post")


@pytest.fixture(scope="module")
def coder():
    return random_coder("topk", 128, 256, k=16)


def test_probing_on_a_model(model, point, coder):
    """A random coder of random directions keeps what is in the words: the register of a text is read off, and more so by all channels."""
    labelled = labelled_texts("register", **SIZES)
    random = random_coder("topk", 128, 256, k=16, seed=5)
    found = probe_coder(model, point, coder, labelled, np.random.default_rng(0), random=random)
    assert list(found.documents) == ["statement"]
    assert found.scores("dense").accuracy.value > 0.95
    assert found.texts == labelled.digest()
    assert plain(found.result())["tasks"]["statement"]["n_test"] == 24
    again = probe_coder(model, point, coder, labelled, np.random.default_rng(0), random=random)
    assert plain(again.result()) == plain(found.result())


def test_erasure_on_a_model(model, point, coder):
    labelled = labelled_texts("kind_by_number", **SIZES)
    found = coder_scr(model, point, coder, labelled, (2, 500))
    assert found.gate == "never"
    assert found.spurious.clean == 1  # singular or plural is in the words
    other = coder_tpp(model, point, coder, labelled, np.random.default_rng(0), (2,))
    assert other.gate == "never"
    for kind, metrics in (("scr", found.saebench()), ("tpp", other.saebench())):
        saebench_result(kind, {}, {f"{kind}_metrics": metrics}, coder=coder.config, release="r", sae_id="i")


def test_erasure_wants_an_autoencoder_and_two_labels(model, point, coder):
    with pytest.raises(
        ValueError, match=r"two classes of each of two labels, got \['question', 'statement'\] and \[\]"
    ):
        coder_scr(model, point, coder, labelled_texts("register", **SIZES))
    transcoder = random_coder("topk", 128, 256, site_in="L1.resid_pre", site_out="L1.mlp_out")
    with pytest.raises(CoderError, match="a transcoder writes another site"):
        coder_tpp(model, point, transcoder, labelled_texts("place", **SIZES), np.random.default_rng(0))


def test_contrast_on_a_model(model, point, coder):
    pairs = contrastive_pairs(20)
    twin = random_coder("topk", 128, 256, k=16, seed=5)
    found = cebench(model, point, coder, pairs, np.random.default_rng(0), baseline=twin, permutations=4)
    result = plain(found.result())
    assert (result["mode"], result["n_latents"], result["n_pairs"]) == ("paper", 256, 20)
    assert result["pairs"] == pairs_digest(pairs)
    for measure in result["measures"].values():
        assert 0 < measure["score"]["value"] <= bound(256) == result["bound"]
        assert measure["per_root"]["value"] == pytest.approx(measure["score"]["value"] / 16)
        assert measure["minus_baseline"]["value"] == pytest.approx(
            measure["score"]["value"] - measure["baseline"]["value"]
        )
    released = cebench(
        model, point, coder, pairs, np.random.default_rng(0), baseline=twin, mode="released", permutations=4
    )
    assert released.released_results(coder, "r", "i")["mode"] == "released"
    assert plain(released.released_results(coder, "r", "i"))["total_rows"] == 20
    assert released.coder.values["contrastive"].tolist() == found.coder.values["contrastive"].tolist()
    assert released.coder.values["independent"].tolist() != found.coder.values["independent"].tolist()


def test_stories_are_means_over_their_own_tokens(model, point, coder):
    pairs = contrastive_pairs(3)
    stories = story_means(model, point, {"a": coder}, pairs)["a"]
    for number, pair in enumerate(pairs):
        for means, n, story in (
            (stories.first, stories.n_first, pair.first),
            (stories.second, stories.n_second, pair.second),
        ):
            (ids,) = text_ids(model, [story])
            np.testing.assert_allclose(means[number], pool_texts(model, point, coder, [ids])[0], rtol=1e-4, atol=1e-5)
            assert n[number] == len(ids) - 4  # five sentences with four end-of-text tokens between them
    assert contrastive(stories).n_latents == 256


def test_a_baseline_has_the_same_width(model, point, coder):
    wide = random_coder("topk", 128, 512)
    with pytest.raises(CoderError, match="the baseline has 512 latents, the coder 256"):
        cebench(model, point, coder, contrastive_pairs(4), np.random.default_rng(0), baseline=wide)
