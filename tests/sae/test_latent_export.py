"""Exported activations: every one that is not zero, at its place, in the layout that other programs read."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tests.activations.families import ids, tiny
from tests.sae.coders import random_coder

from trialplate.activations.capture import captured
from trialplate.activations.sites import resolve
from trialplate.sae.formats import coder_digest
from trialplate.sae.latent_export import export_latents

SITE, END = "L1.resid_post", 256


@pytest.fixture(scope="module")
def model():
    return tiny("gpt_neox")


@pytest.fixture(scope="module")
def documents():
    made = [ids(1, n, seed=n)[0].tolist() for n in (9, 14, 6)]
    made[1][3] = END
    return made


@pytest.fixture(scope="module")
def coder():
    return random_coder("topk", 32, 40)


def read(files):
    """{(row, position, latent): activation} of all splits, and the tokens of the first."""
    found = {}
    for file in files:
        split, first = load_file(file), int(file.stem.split("_")[0])
        for (row, position, latent), value in zip(
            split["locations"].tolist(), split["activations"].tolist(), strict=True
        ):
            found[row, position, latent + first] = value
    return found, load_file(files[0])["tokens"]


def test_every_activation_is_at_its_place(model, documents, coder, tmp_path):
    point = resolve(model, SITE)
    files = export_latents(coder, model, point, documents, tmp_path, n_splits=3)
    # 40 latents in three parts: 0-12, 13-25, 26-39
    assert [file.name for file in files] == ["0_12.safetensors", "13_25.safetensors", "26_39.safetensors"]
    assert {file.parent for file in files} == {tmp_path / SITE}
    found, tokens = read(files)
    wanted = {}
    for row, text in enumerate(documents):
        code = coder.encode(captured(model, torch.tensor([text]), [point])[SITE][0]).dense().numpy()
        if row == 1:
            code[3] = 0  # a separator is read and not counted
        wanted |= {(row, int(p), int(j)): code[p, j] for p, j in zip(*code.nonzero(), strict=True)}
    assert found.keys() == wanted.keys()
    np.testing.assert_allclose([found[key] for key in wanted], list(wanted.values()), rtol=1e-4)
    assert tokens.tolist() == [text + [END] * (14 - len(text)) for text in documents]


def test_locations_are_in_order_and_activations_have_the_types_that_readers_expect(model, documents, coder, tmp_path):
    (file,) = export_latents(coder, model, resolve(model, SITE), documents, tmp_path)
    split = load_file(file)
    assert {name: array.dtype for name, array in split.items()} == {
        "locations": np.uint32, "activations": np.float32, "tokens": np.int64,
    }  # fmt: skip
    assert [tuple(one) for one in split["locations"]] == sorted(map(tuple, split["locations"]))
    about = json.loads((file.parent / "config.json").read_text())
    assert about["ctx_len"] == 14
    assert about["n_tokens"] == 3 * 14
    assert (about["width"], about["n_splits"], about["model_name"]) == (40, 1, "tiny-gpt_neox")
    assert about["coder"] == coder_digest(coder)


def test_some_latents_only(model, documents, coder, tmp_path):
    point = resolve(model, SITE)
    every, _ = read(export_latents(coder, model, point, documents, tmp_path / "all"))
    some, _ = read(export_latents(coder, model, point, documents, tmp_path / "some", latents=[7, 3], n_splits=2))
    assert some == {key: value for key, value in every.items() if key[2] in (3, 7)}


def test_exports_do_not_mix(model, documents, coder, tmp_path):
    point = resolve(model, SITE)
    export_latents(coder, model, point, documents, tmp_path)
    with pytest.raises(FileExistsError, match="two exports do not mix"):
        export_latents(coder, model, point, documents, tmp_path, n_splits=2)
    with pytest.raises(ValueError, match="between 1 and 40 splits of 40 latents, got 41"):
        export_latents(coder, model, point, documents, tmp_path / "b", n_splits=41)
    with pytest.raises(ValueError, match="wanted some latents from 0 to 39"):
        export_latents(coder, model, point, documents, tmp_path / "b", latents=[40])
