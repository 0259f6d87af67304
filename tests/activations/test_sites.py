"""Names of sites, and that each means the same thing in every architecture."""

import pytest
import torch
from tests.activations.families import FAMILIES, N_LAYERS, ids, tiny

from trialplate.activations.capture import captured
from trialplate.activations.errors import SiteError
from trialplate.activations.sites import choose, down_projection, layer_at_depth, resolve, sites_of
from trialplate.models.load import load
from trialplate.models.spec import ModelSpec

PARALLEL = {"gpt_neox", "phi"}


@pytest.fixture(scope="module")
def models():
    made = {}

    def model(family, **changes):
        key = (family, tuple(changes.items()))
        if key not in made:
            made[key] = tiny(family, **changes)
        return made[key]

    return model


def everything(model):
    return captured(model, ids(), [p for n in range(N_LAYERS) for p in choose(model, sites_of(model, n))])


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_add_up_to_the_stream(family, models):
    found = everything(models(family))
    for n in range(N_LAYERS):
        pre, attn, mlp, post = (found[f"L{n}.{s}"] for s in ("resid_pre", "attn_out", "mlp_out", "resid_post"))
        if family in PARALLEL:
            assert f"L{n}.resid_mid" not in found
            torch.testing.assert_close(pre + attn + mlp, post, rtol=0, atol=2e-6)
        else:
            mid = found[f"L{n}.resid_mid"]
            torch.testing.assert_close(pre + attn, mid, rtol=0, atol=1e-6)
            torch.testing.assert_close(mid + mlp, post, rtol=0, atol=1e-6)
        if n:
            assert torch.equal(pre, found[f"L{n - 1}.resid_post"])


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_units_times_the_down_projection_are_what_the_mlp_adds(family, models):
    model = models(family)
    found = everything(model)
    for n in range(N_LAYERS):
        down = down_projection(model, n)
        assert down.rows.shape == (found[f"L{n}.mlp_act"].shape[-1], 32)
        written = found[f"L{n}.mlp_act"] @ down.rows + (0 if down.bias is None else down.bias)
        if family == "gemma2":  # a norm stands behind the down projection
            written = model.module.model.layers[n].post_feedforward_layernorm(written)
        torch.testing.assert_close(written, found[f"L{n}.mlp_out"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_residual_streams_are_the_hidden_states_of_the_library(family, models):
    model = models(family)
    found = everything(model)
    states = model.module(input_ids=ids(), output_hidden_states=True, use_cache=False).hidden_states
    for n in range(N_LAYERS):
        assert torch.equal(found[f"L{n}.resid_pre"], states[n])
    assert not torch.allclose(found[f"L{N_LAYERS - 1}.resid_post"], states[-1])  # which is after the final norm


def test_the_activation_function_stands_between_mlp_pre_and_mlp_act(models):
    gelu, relu = torch.nn.functional.gelu, torch.relu
    for family, act in {"gpt_neox": gelu, "asm": gelu, "opt": relu}.items():
        found = everything(models(family))
        torch.testing.assert_close(act(found["L1.mlp_pre"]), found["L1.mlp_act"], rtol=0, atol=1e-6)
    llama = models("llama")
    found = everything(llama)
    up = llama.module.model.layers[1].mlp.up_proj(found["L1.mlp_in"])
    torch.testing.assert_close(
        torch.nn.functional.silu(found["L1.mlp_pre"]) * up, found["L1.mlp_act"], rtol=0, atol=1e-6
    )


def test_slots_of_an_addressed_state_model(models):
    model = models("asm")
    found = everything(model)
    layer = model.module.language_model.layers[1]
    reads, states = found["L1.slot_reads"].unflatten(-1, (4, 4)), found["L1.slot_states"].unflatten(-1, (4, 4, 8))
    torch.testing.assert_close(reads.sum(-1), torch.ones(3, 20, 4))
    _, info = layer(model.module.blocks[1].norm1(found["L1.resid_pre"]), return_info=True)
    torch.testing.assert_close(reads.transpose(1, 2), info["read_weights"])
    torch.testing.assert_close(states.norm(dim=-1).permute(0, 2, 3, 1), info["slot_state_norm"])
    with pytest.raises(SiteError, match=r"no site 'L1\.slot_reads'"):
        resolve(models("gpt2"), "L1.slot_reads")


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("blocks.1.hook_resid_post", "L1.resid_post"),
        ("blocks.2.mlp.hook_post", "L2.mlp_act"),
        ("blocks.2.mlp.hook_pre", "L2.mlp_pre"),
        ("blocks.0.hook_attn_out", "L0.attn_out"),
        ("blocks.0.attn.hook_z", "gpt_neox.layers.0.attention.dense.input"),
        ("hook_embed", "gpt_neox.embed_in.output"),
        ("gpt_neox.layers.1.mlp.act.output", "gpt_neox.layers.1.mlp.act.output"),
        ("gpt_neox.layers.1.mlp", "L1.mlp_act"),
        ("model.layers.1.mlp", "L1.mlp_act"),
        ("transformer.h.1.mlp", "L1.mlp_act"),
        ("l1.mlp_act", "L1.mlp_act"),
    ],
)
def test_spellings(name, means, models):
    model = models("gpt_neox")
    point = resolve(model, name)
    assert point.name == means
    assert captured(model, ids(), [point])[means].shape[:2] == (3, 20)


def test_hook_z_is_what_the_output_projection_of_attention_reads(models):
    model = models("llama")
    name = "model.layers.1.self_attn.o_proj.input"
    assert resolve(model, "blocks.1.attn.hook_z").name == name
    found = captured(model, ids(), choose(model, [name, "L1.attn_out"]))
    torch.testing.assert_close(model.module.model.layers[1].self_attn.o_proj(found[name]), found["L1.attn_out"])


def test_a_block_named_alone_never_means_its_output(models):
    """Half of the entries of any MLP's output are positive, whatever the model: a share of them says nothing."""
    point = resolve(models("gpt2"), "transformer.h.2.mlp")
    assert (point.name, point.side) == ("L2.mlp_act", "input")
    assert "was taken to mean L2.mlp_act" in point.note
    wrong = resolve(models("gpt_neox"), "model.layers.2.mlp")
    assert "keeps its layers at gpt_neox.layers" in wrong.note
    assert "keeps its layers" not in resolve(models("gpt_neox"), "gpt_neox.layers.2.mlp").note


@pytest.mark.parametrize(
    ("family", "name", "says"),
    [
        ("gpt_neox", "L0.resid_mid", "has no L0.resid_mid: attention and MLP read the same stream"),
        ("phi", "blocks.1.hook_resid_mid", "has no L1.resid_mid"),
        ("gpt2", "L6.mlp_act", "layers 0 to 2. The last is L2"),
        ("gpt2", "model.layers.10.mlp", "layers 0 to 2"),
        ("gpt2", "L1.mlp_akt", "Nearest: L1.mlp_act"),
        ("gpt2", "transformer.h.1.mpl.output", "no module 'transformer.h.1.mpl'. Nearest: transformer.h.1.mlp.output"),
        ("gpt2", "blocks.0.ln1.hook_normalized", "before the scale and bias of a norm"),
        ("gpt2", "blocks.0.hook_q", "these are known: hook_resid_pre"),
        ("gpt2", "encoder", "wanted L0.mlp_act, a hook name, or a module's path"),
    ],
)
def test_a_site_that_is_not_there_is_an_error_with_the_nearest_names(family, name, says, models):
    with pytest.raises(SiteError, match=says.replace("(", r"\(")):
        resolve(models(family), name)


def test_a_sequential_neox_has_the_middle_of_the_stream(models):
    assert "L0.resid_mid" in everything(models("gpt_neox", use_parallel_residual=False))


def test_an_opt_that_normalises_afterwards_has_no_middle(models):
    with pytest.raises(SiteError, match="normalises after each half"):
        resolve(models("opt", do_layer_norm_before=False), "L0.resid_mid")


def test_layers_by_number_depth_and_star(models):
    model = models("gpt2")
    assert [p.name for p in choose(model, ["0", "2"])] == ["L0.mlp_act", "L2.mlp_act"]
    assert [p.name for p in choose(model, ["0,L1.resid_post", "0"])] == ["L0.mlp_act", "L1.resid_post"]
    assert len(choose(model, ["*"], "resid_post")) == N_LAYERS
    with pytest.raises(SiteError, match="no site was named"):
        choose(model, [" "])
    with pytest.raises(SiteError, match="between 0% and 100%"):
        choose(model, ["150%"])


@pytest.mark.parametrize(("n_layers", "wanted"), [(6, [2, 3, 5]), (24, [6, 12, 18]), (32, [8, 16, 24]), (1, [0, 0, 0])])
def test_quarters_are_the_layers_that_studies_of_this_ladder_use(n_layers, wanted):
    assert [layer_at_depth(n_layers, p) for p in (25, 50, 75)] == wanted


def test_an_unknown_architecture_can_be_named_by_path_only(models):
    model = tiny("gpt2")
    model.module.config.model_type = "novel"
    with pytest.raises(SiteError, match="no site map for the architecture 'novel'; known: gpt2"):
        resolve(model, "L0.mlp_act")
    assert captured(model, ids(), [resolve(model, "transformer.h.0.mlp.act.output")])


def test_the_down_projection_under_an_adapter_is_what_the_adapter_makes_of_it():
    peft = pytest.importorskip("peft")
    model = tiny("gpt2")
    settings = peft.LoraConfig(target_modules=["mlp.c_proj"], fan_in_fan_out=True, init_lora_weights=False)
    model.module = peft.get_peft_model(model.module, settings)
    assert resolve(model, "L1.mlp_act").path.endswith("transformer.h.1.mlp.c_proj")
    found, down = captured(model, ids(), choose(model, ["L1.mlp_act", "L1.mlp_out"])), down_projection(model, 1)
    torch.testing.assert_close(found["L1.mlp_act"] @ down.rows + down.bias, found["L1.mlp_out"], rtol=1e-4, atol=1e-4)
    model.module.merge_adapter()
    with pytest.raises(SiteError, match="merge the adapter into the weights first"):
        down_projection(model, 1)


def test_embedded_models_have_all_their_sites():
    for name in ("embedded:neox-tiny", "embedded:asm-tiny"):
        model = load(ModelSpec(name))
        assert "L3.resid_mid" in sites_of(model, 3)
