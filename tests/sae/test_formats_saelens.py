"""Files of SAELens, of all its versions, compute what SAELens' formulas say; what we write is read back to the bit."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.sae.coder_files import OUT, D, M, X, computes, jump, largest, numbers, parts, pre, settings

from trialplate.sae.coder import Coder, initialise
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import CoderError, FormatError
from trialplate.sae.formats import coder_digest, load_coder
from trialplate.sae.formats.saelens import read, write

HOOK = "blocks.2.hook_resid_post"


def saved(folder, tensors, metadata=None, **more):
    """A folder as SAELens 6 writes it."""
    entries = {
        "architecture": "standard",
        "d_in": D,
        "d_sae": M,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": "6.5.0", "hook_name": HOOK, "model_name": "gpt2", **(metadata or {})},
    }
    settings(folder / "cfg.json", **{**entries, **more})
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "sae_weights.safetensors")
    return folder


def four(p):
    return {name: p[name] for name in ("W_enc", "b_enc", "W_dec", "b_dec")}


# --- what a file of version 6 computes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("centred", [True, False])
def test_standard(tmp_path, centred):
    p = parts()
    code = pre(p, centred=centred).relu()
    coder = read(saved(tmp_path, four(p), apply_b_dec_to_input=centred))
    assert computes(coder, code, code @ p["W_dec"] + p["b_dec"])
    assert (coder.config.site_in, coder.config.site_out, coder.config.model) == ("L2.resid_post",) * 2 + ("gpt2",)


def test_topk(tmp_path):
    p = parts()
    code = largest(pre(p), 3).relu()
    coder = read(saved(tmp_path, four(p), architecture="topk", k=3, rescale_acts_by_decoder_norm=False))
    assert computes(coder, code, code @ p["W_dec"] + p["b_dec"])


def test_topk_that_ranks_by_decoder_norm(tmp_path):
    p = parts()
    norm = p["W_dec"].norm(dim=1)
    code = largest(pre(p) * norm, 3).relu()
    assert not torch.equal(code != 0, largest(pre(p), 3).relu() != 0), "the norms must matter here"
    coder = read(saved(tmp_path, four(p), architecture="topk", k=3, rescale_acts_by_decoder_norm=True))
    assert computes(coder, code, (code / norm) @ p["W_dec"] + p["b_dec"])


def test_a_zero_decoder_row_that_ranks_by_norm_is_silent(tmp_path):
    p = parts()
    p["W_dec"][5] = 0
    coder = read(saved(tmp_path, four(p), architecture="topk", k=M, rescale_acts_by_decoder_norm=True))
    assert not coder.encode(X).dense()[:, 5].any()
    assert coder(X).isfinite().all()


def test_jumprelu_is_strictly_above_its_threshold(tmp_path):
    p = {"W_enc": torch.eye(2), "b_enc": torch.zeros(2), "W_dec": torch.eye(2), "b_dec": torch.zeros(2)}
    p["threshold"] = torch.tensor([1.0, 0.5])
    coder = read(saved(tmp_path, p, architecture="jumprelu", d_in=2, d_sae=2))
    assert coder.encode(torch.tensor([[1.0, 0.75], [1.5, 0.5]])).dense().tolist() == [[0.0, 0.75], [1.5, 0.0]]


def test_gated(tmp_path):
    p = parts()
    gates = {name: numbers(M, seed=seed) for name, seed in (("b_gate", 6), ("b_mag", 7), ("r_mag", 8))}
    z = (X - p["b_dec"]) @ p["W_enc"]
    code = (z * gates["r_mag"].exp() + gates["b_mag"]).relu() * (z + gates["b_gate"] > 0)
    tensors = {name: p[name] for name in ("W_enc", "W_dec", "b_dec")}
    coder = read(saved(tmp_path, {**tensors, **gates}, architecture="gated"))
    assert computes(coder, code, code @ p["W_dec"] + p["b_dec"])


@pytest.mark.parametrize("jumps", [True, False])
@pytest.mark.parametrize("skip", [True, False])
def test_transcoders(tmp_path, jumps, skip):
    p = parts(out=OUT)
    W_skip = numbers(OUT, D, seed=6)
    code = jump(pre(p, centred=False), p["threshold"]) if jumps else pre(p, centred=False).relu()
    y = code @ p["W_dec"] + p["b_dec"] + (X @ W_skip.T if skip else 0)
    name = ("jumprelu_" if jumps else "") + ("skip_" if skip else "") + "transcoder"
    tensors = {**(p if jumps else four(p)), **({"W_skip": W_skip} if skip else {})}
    hooks = {"hook_name_out": "blocks.2.hook_mlp_out"}
    coder = read(saved(tmp_path, tensors, hooks, architecture=name, d_out=OUT, apply_b_dec_to_input=False))
    assert computes(coder, code, y)
    assert (coder.config.site_in, coder.config.site_out) == ("L2.resid_post", "L2.mlp_out")


# --- what lies beside the weights ---------------------------------------------------------------------------------------


def test_a_scale_of_training_is_folded(tmp_path):
    p, s = parts(), 0.25
    code = ((s * X - p["b_dec"]) @ p["W_enc"] + p["b_enc"]).relu()
    folder = saved(tmp_path, four(p), normalize_activations="expected_average_only_in")
    settings(folder / "activation_scaler.json", scaling_factor=s)
    assert computes(read(folder), code, (code @ p["W_dec"] + p["b_dec"]) / s)


def test_a_scale_that_is_not_there_is_refused(tmp_path):
    folder = saved(tmp_path, four(parts()), normalize_activations="expected_average_only_in")
    with pytest.raises(
        FormatError, match=r"expected_average_only_in.*scaling_factor in activation_scaler.json beside it is None"
    ):
        read(folder)


def test_a_scale_that_nobody_asks_for_is_refused(tmp_path):
    folder = saved(tmp_path, four(parts()))
    settings(folder / "activation_scaler.json", scaling_factor=2.0)
    with pytest.raises(FormatError, match=r"normalize_activations is 'none'.*is 2\.0"):
        read(folder)


@pytest.mark.parametrize("by_norm", [True, False])
def test_a_threshold_of_training_is_one_of_the_latents_it_was_measured_on(tmp_path, by_norm):
    p, s = parts(), 0.5
    norm = p["W_dec"].norm(dim=1) if by_norm else torch.ones(M)
    code = jump(((s * X - p["b_dec"]) @ p["W_enc"] + p["b_enc"]) * norm, 0.8)
    more = {"architecture": "matryoshka_batchtopk", "k": 3.0, "matryoshka_widths": [4, M]}
    folder = saved(
        tmp_path,
        {**four(p), "topk_threshold": torch.tensor(0.8, dtype=torch.float64)},
        normalize_activations="expected_average_only_in",
        rescale_acts_by_decoder_norm=by_norm,
        **more,
    )
    settings(folder / "activation_scaler.json", scaling_factor=s)
    coder = read(folder)
    unit = s if by_norm else 1.0  # SAELens folds the scale first, and the norms of W_dec / s after it
    assert computes(coder, code / unit, (code / norm @ p["W_dec"] + p["b_dec"]) / s)
    assert coder.config.prefixes == (4,)


def test_a_whitening_of_training_is_folded(tmp_path):
    p = parts()
    mean, matrix = numbers(D, seed=6).double(), torch.eye(D).double() + 0.1 * numbers(D, D, seed=7).double()
    folder = saved(tmp_path, four(p), normalize_activations="covariance_whitening")
    white = {"mean": mean, "matrix": matrix, "inverse_matrix": torch.linalg.inv(matrix).contiguous()}
    save_file(white, folder / "activation_whitening.safetensors")
    z = ((X.double() - mean) @ matrix).float()
    code = ((z - p["b_dec"]) @ p["W_enc"] + p["b_enc"]).relu()
    y = (code @ p["W_dec"] + p["b_dec"]).double() @ white["inverse_matrix"] + mean
    assert computes(read(folder), code, y.float())


@pytest.mark.parametrize("hook", [HOOK, "blocks.2.hook_mlp_out", "hook_embed"])
def test_a_coder_of_centred_weights_reads_raw_activations(tmp_path, hook):
    p, raw = parts(), X + 3.0
    folder = saved(
        tmp_path, four(p), {"hook_name": hook, "model_from_pretrained_kwargs": {"center_writing_weights": True}}
    )
    centred = raw - raw.mean(1, keepdim=True)
    code = pre(p, centred).relu()
    assert computes(read(folder), code, code @ p["W_dec"] + p["b_dec"], raw)
    assert "minus their mean over channels" in read(folder).config.about["notes"][0]


def test_centred_weights_do_not_change_hidden_units(tmp_path):
    p = parts()
    kwargs = {"hook_name": "blocks.2.mlp.hook_post", "model_from_pretrained_kwargs": {"center_writing_weights": True}}
    code = pre(p).relu()
    coder = read(saved(tmp_path, four(p), kwargs))
    assert computes(coder, code, code @ p["W_dec"] + p["b_dec"])
    assert coder.config.site_in == "L2.mlp_act"


# --- files before version 6 ---------------------------------------------------------------------------------------------


def old(folder, tensors, **more):
    settings(folder / "cfg.json", d_in=D, d_sae=M, **more)
    save_file(tensors, folder / "sae_weights.safetensors")
    return folder


def test_an_old_flat_file(tmp_path):
    p = parts()
    code = pre(p).relu()
    coder = read(old(tmp_path, four(p), hook_point=HOOK, normalize_activations=False, model_name="gpt2"))
    assert computes(coder, code, code @ p["W_dec"] + p["b_dec"])
    assert (coder.config.site_in, coder.config.model) == ("L2.resid_post", "gpt2")


def test_an_old_topk_is_named_by_its_activation(tmp_path):
    p = parts()
    code = largest(pre(p, centred=False), 2).relu()
    more = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 2}, "sae_lens_version": "5.2.0"}
    coder = read(old(tmp_path, four(p), apply_b_dec_to_input=False, **more))
    assert computes(coder, code, code @ p["W_dec"] + p["b_dec"])


def test_an_old_scaling_factor_of_ones_is_dropped_and_another_counts_in_the_output(tmp_path):
    p = parts()
    code = pre(p).relu()
    ones = old(tmp_path / "ones", {**four(p), "scaling_factor": torch.ones(M)})
    assert computes(read(ones), code, code @ p["W_dec"] + p["b_dec"])
    factor = p["threshold"] + 0.5
    said = old(tmp_path / "said", {**four(p), "scaling_factor": factor}, finetuning_scaling_factor=True)
    assert computes(read(said), code, (code * factor) @ p["W_dec"] + p["b_dec"])
    with pytest.raises(FormatError, match="finetuning_scaling_factor does not say"):
        read(old(tmp_path / "unsaid", {**four(p), "scaling_factor": factor}))


def test_an_old_log_threshold(tmp_path):
    p = parts()
    code = jump(pre(p), p["threshold"])
    tensors = {**four(p), "log_threshold": p["threshold"].log()}
    assert computes(read(old(tmp_path, tensors, architecture="jumprelu")), code, code @ p["W_dec"] + p["b_dec"])


# --- what is refused, and with which words ------------------------------------------------------------------------------

REFUSED = {
    "layer norm": ({"normalize_activations": "layer_norm"}, {}, "divided by its own standard deviation"),
    "constant norm": ({"normalize_activations": "constant_norm_rescale"}, {}, "scaled to norm sqrt"),
    "an unknown norm": ({"normalize_activations": "zca"}, {}, "normalize_activations is 'zca'"),
    "another architecture": ({"architecture": "abstopk", "k": 2}, {}, "no coder here has the architecture 'abstopk'"),
    "one head": ({}, {"hook_head_index": 3}, "reads head 3"),
    "folded biases": (
        {},
        {"hook_name": "blocks.0.attn.hook_z", "model_from_pretrained_kwargs": {"fold_value_biases": True}},
        "value biases",
    ),
    "another width": ({"d_sae": 15}, {}, "says d_sae = 15, and its tensors say 14"),
    "another input": ({"d_in": 5}, {}, "says an output of 5 channels, and b_dec has 6"),
    "a transcoder without its output": (
        {"architecture": "transcoder", "apply_b_dec_to_input": False},
        {},
        "no 'd_out'",
    ),
    "another output": (
        {"architecture": "transcoder", "apply_b_dec_to_input": False, "d_out": 7},
        {},
        "says an output of 7 channels, and b_dec has 6",
    ),
    "a transcoder that centres": (
        {"architecture": "transcoder", "d_out": D},
        {},
        "apply_b_dec_to_input of a transcoder",
    ),
    "no k": ({"architecture": "topk"}, {}, "no 'k'"),
    "half a k": ({"architecture": "topk", "k": 2.5}, {}, "wanted k to be a whole number, got 2.5"),
    "k beyond the latents": ({"architecture": "topk", "k": 99}, {}, "k between 1 and d_sae"),
    "a version": ({}, {"sae_lens_version": "next"}, "'next' is no version of SAELens"),
}


@pytest.mark.parametrize(("more", "metadata", "words"), REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path, more, metadata, words):
    with pytest.raises(FormatError, match=words):
        read(saved(tmp_path, four(parts()), metadata, **more))


@pytest.mark.parametrize("missing", ["architecture", "apply_b_dec_to_input", "normalize_activations", "d_in"])
def test_no_default_for_what_decides_the_function(tmp_path, missing):
    folder = saved(tmp_path, four(parts()))
    entries = json.loads((folder / "cfg.json").read_text())
    del entries[missing]
    settings(folder / "cfg.json", **entries)
    with pytest.raises(FormatError, match=f"no '{missing}'"):
        read(folder)


def test_old_activations_that_are_not_read(tmp_path):
    with pytest.raises(FormatError, match="activation_fn is 'tanh-relu'"):
        read(old(tmp_path / "tanh", four(parts()), activation_fn="tanh-relu"))
    more = {"activation_fn": "topk", "activation_fn_kwargs": {"k": 2, "signed": True}}
    with pytest.raises(FormatError, match="ranks by magnitude"):
        read(old(tmp_path / "signed", four(parts()), **more))


def test_keys_are_named_that_are_missing_or_unknown(tmp_path):
    p = four(parts())
    p["W_encoder"] = p.pop("W_enc")
    with pytest.raises(FormatError, match=r"missing: W_enc; unknown: W_encoder"):
        read(saved(tmp_path, p))


def test_a_transposed_matrix_is_refused_with_its_reason(tmp_path):
    p = four(parts())
    p["W_dec"] = p["W_dec"].T
    with pytest.raises(FormatError, match=r"wanted W_dec \[14, 6\], got \[6, 14\] \(it is transposed\)"):
        read(saved(tmp_path, p))


def test_nan_does_not_pass(tmp_path):
    p = four(parts())
    p["b_dec"][2] = torch.nan
    with pytest.raises(FormatError, match="b_dec holds NaN"):
        read(saved(tmp_path, p))


# --- writing ------------------------------------------------------------------------------------------------------------

WRITTEN = {
    "relu": CoderConfig("relu", D, M, site_in="L2.resid_post", site_out="L2.resid_post", model="gpt2"),
    "topk": CoderConfig("topk", D, M, k=3),
    "batchtopk": CoderConfig("batchtopk", D, M, k=3, about={"seed": 1}),
    "matryoshka": CoderConfig("batchtopk", D, M, k=3, prefixes=(4, 8)),
    "jumprelu": CoderConfig("jumprelu", D, M, centre_input=False),
    "gated": CoderConfig("gated", D, M),
    "square": CoderConfig("topk", D, D, k=3),
    "narrow": CoderConfig("topk", D, 3, k=2),
    "transcoder": CoderConfig("relu", D, M, d_out=OUT, centre_input=False),
    "jumprelu_skip_transcoder": CoderConfig("jumprelu", D, M, d_out=OUT, centre_input=False, skip=True),
}
OWN = {
    "trialplate_signed_topk": CoderConfig("topk", D, M, k=3, signed=True),
    "trialplate_topk_transcoder": CoderConfig("topk", D, M, k=3, d_out=OUT, centre_input=False),
    "trialplate_topk_skip_transcoder": CoderConfig("topk", D, M, k=3, skip=True),
    "trialplate_routed": CoderConfig("routed", D, M, k=2, n_experts=3),
}


@torch.no_grad()
def filled(config):
    coder = initialise(Coder(config), torch.Generator().manual_seed(3)).requires_grad_(False)
    for seed, (name, tensor) in enumerate(coder.state_dict().items()):
        if name not in ("W_dec", "encoder"):
            tensor.copy_(0.3 * numbers(*tensor.shape, seed=seed).abs())
    return coder


@pytest.mark.parametrize("config", [*WRITTEN.values(), *OWN.values()], ids=[*WRITTEN, *OWN])
def test_what_is_written_is_read_back_to_the_bit(tmp_path, config):
    coder = filled(config)
    digest = write(coder, tmp_path / "coder")
    back = load_coder(tmp_path / "coder")
    assert digest == coder_digest(coder) == coder_digest(back)
    assert back.config == config
    assert all(torch.equal(tensor, coder.state_dict()[name]) for name, tensor in back.state_dict().items())
    assert torch.equal(back(X), coder(X))


@pytest.mark.parametrize("name", OWN)
def test_what_saelens_has_no_coder_for_has_a_name_that_it_refuses(tmp_path, name):
    write(filled(OWN[name]), tmp_path / "coder")
    assert json.loads((tmp_path / "coder" / "cfg.json").read_text())["architecture"] == name


def test_batchtopk_is_written_as_jumprelu_with_its_threshold_repeated(tmp_path):
    coder = filled(WRITTEN["matryoshka"])
    coder.threshold.fill_(0.4)
    write(coder, tmp_path / "coder")
    entries = json.loads((tmp_path / "coder" / "cfg.json").read_text())
    tensors = load_file(tmp_path / "coder" / "sae_weights.safetensors")
    assert (entries["architecture"], entries["metadata"]["training_architecture"]) == (
        "jumprelu",
        "matryoshka_batchtopk",
    )
    assert tensors["threshold"].tolist() == [torch.tensor(0.4).item()] * M
    assert list(tensors) == sorted(tensors)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


def test_sites_are_written_as_hooks(tmp_path):
    write(filled(WRITTEN["relu"]), tmp_path / "coder")
    entries = json.loads((tmp_path / "coder" / "cfg.json").read_text())
    assert entries["metadata"]["hook_name"] == HOOK
    assert entries["metadata"]["model_name"] == "gpt2"


def test_a_transcoder_that_centres_its_input_is_written_with_that_folded(tmp_path):
    coder = filled(CoderConfig("relu", D, M, site_in="L1.resid_mid", site_out="L1.mlp_out"))
    digest = write(coder, tmp_path / "coder")
    back = read(tmp_path / "coder")
    assert not back.config.centre_input
    assert digest == coder_digest(back) != coder_digest(coder)
    assert computes(back, coder.encode(X).dense(), coder(X))


def test_a_coder_in_another_dtype_is_written_in_float32(tmp_path):
    coder = filled(WRITTEN["topk"]).bfloat16()
    write(coder, tmp_path / "coder")
    assert coder.W_dec.dtype == torch.bfloat16, "the coder that is written stays as it is"
    assert torch.equal(read(tmp_path / "coder").W_dec, coder.W_dec.float())


def test_batchtopk_without_a_threshold_is_not_written(tmp_path):
    coder = Coder(WRITTEN["batchtopk"])
    with pytest.raises(CoderError, match="threshold of this batchtopk coder has none yet; fit one"):
        write(coder, tmp_path / "coder")
    assert not list(tmp_path.iterdir())


def test_numbers_that_are_not_finite_are_not_written(tmp_path):
    coder = filled(WRITTEN["topk"])
    coder.b_enc[1] = torch.inf
    with pytest.raises(CoderError, match="b_enc of this topk coder is not finite"):
        write(coder, tmp_path / "coder")
    assert not list(tmp_path.iterdir())


def test_a_coder_is_never_written_over_another(tmp_path):
    coder = filled(WRITTEN["topk"])
    write(coder, tmp_path / "coder")
    before = (tmp_path / "coder" / "cfg.json").read_bytes()
    with pytest.raises(FormatError, match="a coder is never written over another"):
        write(filled(WRITTEN["relu"]), tmp_path / "coder")
    assert (tmp_path / "coder" / "cfg.json").read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["coder"]


def test_a_disk_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trialplate.sae.formats.folder.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(filled(WRITTEN["topk"]), tmp_path / "coder")
    assert not list(tmp_path.iterdir())


def test_notes_that_are_no_json_are_refused(tmp_path):
    coder = filled(CoderConfig("relu", D, M, about={"lr": float("nan")}))
    with pytest.raises(CoderError, match="plain JSON data"):
        write(coder, tmp_path / "coder")


def test_a_description_that_was_edited_is_refused(tmp_path):
    write(filled(WRITTEN["topk"]), tmp_path / "coder")
    path = tmp_path / "coder" / "cfg.json"
    entries = json.loads(path.read_text())
    settings(path, **{**entries, "k": 4})
    with pytest.raises(FormatError, match="k is 4, and its own description says 3"):
        read(tmp_path / "coder")
    entries["metadata"]["trialplate"]["schema"] = "trialplate-coder/2"
    settings(path, **entries)
    with pytest.raises(FormatError, match="got 'trialplate-coder/2'; another release may read it"):
        read(tmp_path / "coder")
    entries["metadata"]["trialplate"] = {"schema": "trialplate-coder/1", "config": {"architecture": "topk", "width": 3}}
    settings(path, **entries)
    with pytest.raises(FormatError, match="missing or unknown: about, centre_input"):
        read(tmp_path / "coder")


def test_thresholds_that_are_no_longer_equal_make_a_jumprelu_coder(tmp_path):
    write(filled(WRITTEN["matryoshka"]), tmp_path / "coder")
    path = tmp_path / "coder" / "sae_weights.safetensors"
    tensors = load_file(path)
    tensors["threshold"][3] += 1
    save_file(tensors, path)
    back = read(tmp_path / "coder")
    assert (back.config.architecture, back.config.k, back.config.prefixes) == ("jumprelu", None, (4, 8))
    assert torch.equal(back.threshold, tensors["threshold"])
