"""Programs that answer a question about coders, small: a shift of the texts, transcoders, a known circuit; and, slow, the studies over grids.

Budget: 10 CPU seconds; the slow ones take minutes.
"""

import pytest
from evals.domain_texts import APPLIES
from evals.sae.conftest import SEEDS, as_estimate, plan

pytestmark = APPLIES


@pytest.mark.parametrize("shift", ["attractor"])
def test_shift(shift, coder, random_coder, model, about, record, seed, limit):
    """Probes that were trained and chosen on plain texts, tested on plain and on shifted ones; the raw activations beside, on the same texts."""
    from trialplate.activations.sites import resolve
    from trialplate.sae.programs.ood_stress import OodOptions, run_ood_stress
    from trialplate.tasks.shifted_texts import shifted_texts

    texts = shifted_texts(shift, max(8, limit(160) // 4 * 4), seed % 2**31)
    record.uses(f"shifted texts: {shift}", texts.digest, len(texts.train), seed=seed)
    point = resolve(model, coder.config.site_in)
    found = run_ood_stress(OodOptions(), texts, features_of(model, point, coder, random_coder, texts))
    common = {"shift": shift, **about}
    for where in ("source", "target"):
        null = ("random coder", found["arms"]["random"][where]["value"])
        record(
            "shift_accuracy",
            **as_estimate(found["arms"]["coder"][where]),
            null=null,
            texts=where,
            of="latents",
            **common,
        )
        everything = as_estimate(found["arms"]["dense"][where])
        record("shift_accuracy", **everything, null=("either class", 0.5), texts=where, of="all channels", **common)
    raw = ("raw activations", found["arms"]["raw"]["drop"]["value"])
    record("shift_drop", **as_estimate(found["drop"]), null=raw, **common)
    record("shift_excess", **as_estimate(found["excess_drop"]), null=("no difference", 0.0), **common)
    assert found["shift"]["n_source"] == found["shift"]["n_target"] == len(texts.source)


def features_of(model, point, coder, random_coder, texts):
    """Means over tokens of latents, channels and a random coder's latents, of every part of a shift, from one pass."""
    from itertools import accumulate, pairwise

    from trialplate.sae.pooled import pool, text_ids
    from trialplate.sae.programs.ood_stress import Features

    parts = (texts.train, texts.valid, texts.source, texts.target)
    ids = text_ids(model, [(text.text,) for part in parts for text in part])
    means = pool(model, point, {"coder": coder, "random": random_coder}, ids).means
    ends = list(accumulate((len(part) for part in parts), initial=0))
    return {name: Features(*(rows[low:high] for low, high in pairwise(ends))) for name, rows in means.items()}


@pytest.mark.requires_sae(0)
def test_transcoders(subject, model, rows_at, record, at_half):
    """Are transcoders of an MLP as stable over seeds as autoencoders of what it writes? One condition, the same tokens in the same order."""
    from trialplate.sae.programs.transcoder_stress import TranscoderOptions, run_transcoder_stress

    site_in, site_out = f"L{at_half}.mlp_in", f"L{at_half}.mlp_out"
    rows, held_out = rows_at(site_in, site_out)
    config, settings = plan("topk", 0, rows.d_in, site_in, subject.name, steps=80)
    config = config.with_(d_sae=128, site_out=site_out, d_out=rows.d_out, centre_input=False)
    found = run_transcoder_stress(TranscoderOptions(((config, settings),), SEEDS), rows, held_out)
    (one,) = found["conditions"]
    for kind in ("transcoder", "autoencoder"):
        record(
            "stability", **as_estimate(one[kind]["stability"]["adjusted"]), null=("random directions", 0.0), kind=kind
        )
    record("transcoder_gain", **as_estimate(found["delta"]), null=("no difference", 0.0))
    record("lowest_ev", one["floors"]["lowest"], n=held_out.n_rows)
    assert found["n_conditions"] == 1


@pytest.fixture
def at_half(model):
    """The layer after half of them."""
    from trialplate.activations.sites import layer_at_depth

    return layer_at_depth(model.n_layers, 50)
