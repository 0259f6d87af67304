"""Sites mean what they say: what is read there is what the library's own outputs and the weights give, and reading changes nothing.

The references know nothing of hooks: hidden states come from the library's own option, matrix products from the stored weights. Gaps are largest
differences over the largest entry. Budget: 3 CPU seconds.
"""

import pytest
import torch
from evals.activations.conftest import largest
from evals.domain_texts import APPLIES

from trialplate.activations.capture import captured, reading
from trialplate.activations.families import SITES
from trialplate.activations.sites import choose, down_projection, family_of, sites_of

pytestmark = APPLIES


@pytest.fixture
def ids(model, rng):
    """[3, 24] random tokens."""
    rows = min(model.vocab_rows, model.tokenizer.vocab_size)
    return torch.from_numpy(rng.integers(1, rows, (3, 24))).to(model.device)


def gap(got, wanted):
    """Largest difference over the largest entry."""
    return float((got.float() - wanted.float()).abs().max() / wanted.float().abs().max())


def everything(model, ids, layer):
    """{site: values} of a layer."""
    return {
        name.partition(".")[2]: v for name, v in captured(model, ids, choose(model, sites_of(model, layer))).items()
    }


def test_layer_map(model, ids, record):
    """Every site of the architecture's map is there, as wide as the stream or as the MLP; absent ones are those that the map explains."""
    explained = family_of(model).absent(model.module.config)
    missing, expected = 0, 0
    for layer in range(model.n_layers):
        found, d_ff = everything(model, ids, layer), len(down_projection(model, layer).rows)
        wide = {s: d_ff if s in ("mlp_pre", "mlp_act") else model.d_model for s in SITES if s not in explained}
        expected += len(wide)
        missing += sum(site not in found or found[site].shape[-1] != width for site, width in wide.items())
    record("sites_missing", missing, n=expected)
    assert expected == model.n_layers * (len(SITES) - len(explained))


@pytest.mark.parametrize("of", ["stream", "parts", "mlp"])
def test_capture_parity(of, model, ids, record):
    """stream: the residual stream against the library's hidden states. parts: what the halves of a layer add to it. mlp: the hidden units,
    times the stored down projection, against what the MLP adds. Null: the distance of the next layer's activations."""
    states = model.module(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
    gaps, nulls = [], []
    layers = [everything(model, ids, n) for n in range(model.n_layers)]
    for n, found in enumerate(layers):
        other, down = layers[(n + 1) % len(layers)], down_projection(model, n)
        added = found["attn_out"] + found["mlp_out"]
        written = found["mlp_act"] @ down.rows + (0 if down.bias is None else down.bias)
        got, wanted, null = {
            "stream": (found["resid_pre"], states[n], other["resid_pre"]),
            "parts": (found["resid_pre"] + added, found["resid_post"], other["resid_post"]),
            "mlp": (written, found["mlp_out"], other["mlp_out"]),
        }[of]
        gaps.append(gap(got, wanted))
        nulls.append(gap(null, wanted))
    record("site_gap", largest(gaps), n=len(gaps), of=of, null=("the next layer", min(nulls)))
    assert min(nulls) > 0


def test_capture_noop(model, ids, record):
    """Logits while every hidden unit is read, and after a pass that ended in the middle of the model, against those before."""
    before, points = model.logits(ids), choose(model, ["*"])
    with reading(model, points, lambda name, values: None, stop=False) as run:
        watched = run(ids).logits
    captured(model, ids, points[:1])
    change = largest(float((logits - before).abs().max()) for logits in (watched, model.logits(ids)))
    record("hooked_gap", change, n=ids.numel())
    assert torch.isfinite(before).all()
