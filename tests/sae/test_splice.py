"""A coder in place of activations: exact where nothing should change, and changing exactly what it should where something does."""

import pytest
import torch
from tests.activations.families import FAMILIES, ids, tiny
from tests.sae.coders import drawn, identity, random_coder

from trialplate.activations.capture import captured
from trialplate.activations.sites import resolve, sites_of
from trialplate.sae.coder import Coder
from trialplate.sae.config import CoderConfig
from trialplate.sae.edits import ablate, add, hold
from trialplate.sae.errors import CoderError
from trialplate.sae.splice import Splice, spliced

D = 32  # width of the stream of the tiny models


@pytest.fixture
def model():
    return tiny("gpt_neox")


def hooks_of(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.module.modules())


def at(model, point):
    return captured(model, ids(), [point])[point.name]


# --- nothing changes where nothing should ----------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_perfect_coder_gives_the_plain_logits_at_every_site(family):
    model = tiny(family)
    plain = model.logits(ids())
    for name in sites_of(model, 1):
        point = resolve(model, name)
        if point.record:
            continue
        coder = identity(at(model, point).shape[-1])
        with spliced(model, point, coder):
            assert torch.equal(model.logits(ids()), plain), name
    assert hooks_of(model) == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_with_its_error_kept_a_bad_coder_gives_the_plain_logits(family):
    model = tiny(family)
    plain, point = model.logits(ids()), resolve(model, "L1.resid_post")
    coder = random_coder("topk", D, 64)
    with spliced(model, point, coder, "error_kept"):
        assert torch.equal(model.logits(ids()), plain)
    with spliced(model, point, coder):
        assert not torch.allclose(model.logits(ids()), plain, atol=1e-3)
    assert torch.equal(model.logits(ids()), plain)
    assert hooks_of(model) == 0


def test_hooks_are_gone_when_the_block_fails(model):
    with pytest.raises(RuntimeError, match="stop"), spliced(model, resolve(model, "L0.mlp_out"), identity(D), skip=[3]):
        raise RuntimeError("stop")
    assert hooks_of(model) == 0


# --- what is written -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["L1.resid_pre", "L1.mlp_out", "L2.resid_post"])
def test_modes_write_what_they_say(model, site):
    point = resolve(model, site)
    coder, y = random_coder("relu", D, 48), at(model, point)
    made = coder(y.flatten(0, 1)).view_as(y)
    for mode, wanted in (("replace", made), ("zero", torch.zeros_like(y)), ("error_kept", y)):
        with spliced(model, point, coder, mode):
            torch.testing.assert_close(at(model, point), wanted)
    mean = y.flatten(0, 1).mean(0)
    with spliced(model, point, mode="mean", mean=mean):
        assert torch.equal(at(model, point), mean.expand_as(y))


def test_ablating_a_latent_changes_its_own_channel_alone(model):
    """Latent 5 of the identity is the positive part of channel 5."""
    point = resolve(model, "L1.resid_post")
    y = at(model, point)
    wanted = y.clone()
    wanted[..., 5] = y[..., 5].clamp(max=0)
    for mode in ("replace", "error_kept"):
        with spliced(model, point, identity(D), mode, edit=ablate([5])):
            assert torch.equal(at(model, point), wanted)


def test_ablating_a_latent_takes_away_what_it_wrote_where_it_was_active(model):
    point, coder = resolve(model, "L1.resid_post"), random_coder("topk", D, 64)
    y = at(model, point)
    coder.b_dec.copy_(
        y.flatten(0, 1).mean(0)
    )  # without it the mean decides which latents are active, the same on all tokens
    code = coder.encode(y.flatten(0, 1)).dense()
    latent = int(((code != 0).sum(0) - 6).abs().argmin())
    wrote = (code[:, latent, None] * coder.W_dec[latent]).view_as(y)
    with spliced(model, point, coder, "error_kept", edit=ablate([latent])):
        changed = at(model, point)
        logits = model.logits(ids())
    torch.testing.assert_close(changed, y - wrote, atol=1e-5, rtol=1e-5)
    active = (code[:, latent] != 0).view(y.shape[:2])
    assert 0 < int(active.sum()) < active.numel()
    assert torch.equal(changed[~active], y[~active])
    # a causal model does not look ahead: predictions before the first change are the same, bit for bit
    before = active.cumsum(1) == 0
    plain = model.logits(ids())
    assert torch.equal(logits[before], plain[before])
    assert not torch.equal(logits[active], plain[active])


def test_steering_adds_a_multiple_of_the_decoder_row(model):
    point, coder = resolve(model, "L1.resid_post"), random_coder("topk", D, 64)
    y = at(model, point)
    with spliced(model, point, coder, "error_kept", edit=add([3], 2.0)):
        torch.testing.assert_close(at(model, point), y + 2 * coder.W_dec[3], atol=1e-5, rtol=1e-5)
    with spliced(model, point, identity(D), edit=hold([4, D + 4], 0.0)):
        assert not at(model, point)[..., 4].any()


def test_special_tokens_are_left_as_they_are(model):
    point, tokens = resolve(model, "L0.resid_post"), ids()
    skip = [int(tokens[0, 0]), int(tokens[2, 7])]
    special = torch.isin(tokens, torch.tensor(skip))
    y = at(model, point)
    with spliced(model, point, mode="zero", skip=skip):
        found = at(model, point)
    assert torch.equal(found[special], y[special])
    assert not found[~special].any()


def test_cells_that_do_not_count_are_left_as_they_are(model):
    point, counted = resolve(model, "L0.resid_post"), torch.arange(60).view(3, 20) % 3 == 0
    y = at(model, point)
    token = int(ids()[0, 0])
    for skip in ((), (token,)):
        with Splice(model, point, mode="zero", skip=skip).running(counted):
            found = at(model, point)
        kept = counted & ~torch.isin(ids(), torch.tensor(skip, dtype=torch.long))
        assert torch.equal(found[~kept], y[~kept])
        assert not found[kept].any()


def test_decoding_step_by_step_is_one_pass(model):
    tokens, coder = ids(), random_coder("topk", D, 64)
    with spliced(model, resolve(model, "L1.resid_post"), coder, skip=[int(tokens[0, 0])]):
        whole = model.logits(tokens)
        _, state = model.start(tokens[:, :15])
        step, _ = model.extend(state, tokens[:, 15:])
    torch.testing.assert_close(step, whole[:, 15:], atol=1e-4, rtol=1e-4)


def test_a_model_in_a_narrow_dtype_keeps_it(model):
    plain_point = resolve(model, "L1.resid_post")
    model.module.bfloat16()
    plain = model.logits(ids())
    assert plain.dtype == torch.bfloat16
    for mode, coder in (("replace", identity(D)), ("error_kept", random_coder("topk", D, 64))):
        with spliced(model, plain_point, coder, mode):
            assert torch.equal(model.logits(ids()), plain)


# --- transcoders -----------------------------------------------------------------------------------------------------


def transcoder(**more):
    coder = random_coder(
        "relu", D, 48, centre_input=False, skip=True, site_in="L1.mlp_in", site_out="L1.mlp_out", **more
    )
    coder.W_skip.copy_(drawn(D, D, seed=5) / D)
    return coder


def test_a_transcoder_reads_one_site_and_writes_another(model):
    coder, reads, writes = transcoder(), resolve(model, "L1.mlp_in"), resolve(model, "L1.mlp_out")
    x, plain = at(model, reads), model.logits(ids())
    with spliced(model, reads, coder):
        torch.testing.assert_close(at(model, writes), coder(x.flatten(0, 1)).view_as(x))
        assert torch.equal(at(model, reads), x)
    with spliced(model, reads, coder, "error_kept"):
        assert torch.equal(model.logits(ids()), plain)
    with spliced(model, reads, coder, "zero"):
        assert not at(model, writes).any()
    assert hooks_of(model) == 0


def test_a_site_cannot_be_written_before_it_is_read(model):
    coder = random_coder("relu", D, 48, centre_input=False, skip=True)
    with (
        spliced(model, resolve(model, "L2.mlp_in"), coder, out=resolve(model, "L0.mlp_out")),
        pytest.raises(CoderError, match=r"L0\.mlp_out comes before L2\.mlp_in in a pass"),
    ):
        model.logits(ids())


# --- what is refused -------------------------------------------------------------------------------------------------


def test_a_coder_of_another_site_is_refused(model):
    """At the wrong site every number is still a number."""
    coder = random_coder("topk", D, 64, site_in="blocks.1.hook_resid_post", site_out="blocks.1.hook_resid_post")
    with spliced(model, resolve(model, "L1.resid_post"), coder):
        pass
    with pytest.raises(CoderError, match=r"reads blocks\.1\.hook_resid_post and would be put at L0\.resid_post"):
        Splice(model, resolve(model, "L0.resid_post"), coder)


def test_messages(model):
    point = resolve(model, "L1.resid_post")
    for arguments, words in [
        ({"mode": "swap"}, "wanted a mode of replace, error_kept, mean, zero, got 'swap'"),
        ({}, "the mode replace wants a coder"),
        ({"mode": "zero", "edit": ablate([1])}, "an edit of them would be lost"),
        ({"mode": "mean"}, "a mean vector is wanted for the mode mean"),
        ({"mode": "zero", "mean": torch.zeros(D)}, "a mean vector is wanted for the mode mean"),
        ({"coder": random_coder("relu", D, 48, centre_input=False, skip=True)}, "does not say where it writes"),
    ]:
        with pytest.raises(CoderError, match=words):
            Splice(model, point, **arguments)
    with (
        spliced(model, point, Coder(CoderConfig("relu", 8, 4))),
        pytest.raises(CoderError, match="is 32 wide, what is to be written there 8"),
    ):
        model.logits(ids())
    with (
        spliced(model, point, mode="mean", mean=torch.zeros(3)),
        pytest.raises(CoderError, match="is to be written there 3"),
    ):
        model.logits(ids())
    with spliced(model, point, mode="zero", skip=[1]), pytest.raises(CoderError, match="runs on embeddings"):
        model.module(inputs_embeds=torch.zeros(1, 3, D))
    asm = tiny("asm")
    with pytest.raises(CoderError, match="can be read and not written"):
        Splice(asm, resolve(asm, "L1.slot_states"), mode="zero")
    assert hooks_of(model) == 0
