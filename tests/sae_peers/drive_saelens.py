"""Run by SAELens' own Python: drive_saelens.py FOLDER. Encodes x with the coders in FOLDER/ours, and leaves coders of its own in FOLDER/theirs;
for each a file in FOLDER/said with code and y. What it says of coders that are not for it, in FOLDER/not_theirs, goes to FOLDER/refused.json."""

import json
import sys
from pathlib import Path

import torch
from sae_lens import SAE
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.gated_sae import GatedSAE, GatedSAEConfig
from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig
from sae_lens.saes.matryoshka_batchtopk_sae import MatryoshkaBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAEConfig
from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig
from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig, TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.saes.transcoder import (
    JumpReLUSkipTranscoder,
    JumpReLUSkipTranscoderConfig,
    JumpReLUTranscoder,
    JumpReLUTranscoderConfig,
    SkipTranscoder,
    SkipTranscoderConfig,
    Transcoder,
    TranscoderConfig,
)
from safetensors.torch import load_file, save_file

FOLDER = Path(sys.argv[1])
X = load_file(FOLDER / "x.safetensors")["x"]
D, M, OUT = X.shape[1], 48, 10
SAID = FOLDER / "said"
SAID.mkdir()
generator = torch.Generator().manual_seed(1)


@torch.no_grad()
def say(name, sae, x=X):
    save_file({"code": sae.encode(x).contiguous(), "y": sae(x).contiguous()}, SAID / f"{name}.safetensors")


@torch.no_grad()
def randomise(sae):
    for name, tensor in sae.state_dict().items():
        if name == "topk_threshold":
            tensor.fill_(0.7)
        elif name == "threshold":
            tensor.copy_(torch.rand(tensor.shape, generator=generator))
        else:
            tensor.copy_(0.4 * torch.randn(tensor.shape, generator=generator))
    return sae


def own(name, sae):
    randomise(sae).save_model(FOLDER / "theirs" / name)
    say(name, SAE.load_from_disk(FOLDER / "theirs" / name))


def trained(name, sae, scale=None):
    """A checkpoint of training; what it computes is what the same coder computes when it is saved for inference."""
    randomise(sae).save_model(FOLDER / "theirs" / name)
    if scale is not None:
        beside = {"scaling_factor": scale, "has_whitening": False}
        (FOLDER / "theirs" / name / "activation_scaler.json").write_text(json.dumps(beside))
        sae.fold_activation_norm_scaling_factor(scale)
    sae.save_inference_model(FOLDER / "theirs" / f"{name}_inference")
    say(f"{name}_inference", SAE.load_from_disk(FOLDER / "theirs" / f"{name}_inference"))
    say(name, SAE.load_from_disk(FOLDER / "theirs" / f"{name}_inference"))


@torch.no_grad()
def whitened(name):
    sae = randomise(TopKTrainingSAE(TopKTrainingSAEConfig(D, M, k=5, normalize_activations="covariance_whitening")))
    sae.save_model(FOLDER / "theirs" / name)
    mean = torch.randn(D, generator=generator, dtype=torch.float64)
    matrix = torch.eye(D, dtype=torch.float64) + 0.2 * torch.randn(D, D, generator=generator, dtype=torch.float64)
    stored = {"mean": mean, "matrix": matrix, "inverse_matrix": torch.linalg.inv(matrix).contiguous()}
    save_file(stored, FOLDER / "theirs" / name / "activation_whitening.safetensors")
    beside = {"scaling_factor": None, "has_whitening": True}
    (FOLDER / "theirs" / name / "activation_scaler.json").write_text(json.dumps(beside))
    sae.fold_activation_whitening(mean, matrix, stored["inverse_matrix"])
    say(name, sae)


def flat(name, **settings):
    """A file as versions before 6 wrote it."""
    folder = FOLDER / "theirs" / name
    randomise(StandardSAE(StandardSAEConfig(D, M))).save_model(folder)
    old = {"d_in": D, "d_sae": M, "dtype": "torch.float32", "device": "cpu", "hook_point": "blocks.1.hook_resid_pre"}
    (folder / "cfg.json").write_text(json.dumps({**old, **settings}))
    say(name, SAE.load_from_disk(folder))


@torch.no_grad()
def changed(name):
    """Our batchtopk coder, loaded, given other decoder norms, and saved again: our metadata travels along."""
    sae = SAE.load_from_disk(FOLDER / "ours" / "our_matryoshka")
    sae.W_dec.mul_(1 + torch.rand(M, 1, generator=generator))
    sae.fold_W_dec_norm()
    sae.save_model(FOLDER / "theirs" / name)
    say(name, sae)


def refusal(folder):
    try:
        SAE.load_from_disk(folder)
    except (KeyError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None


refused = {folder.name: refusal(folder) for folder in sorted((FOLDER / "not_theirs").iterdir())}
(FOLDER / "refused.json").write_text(json.dumps(refused))
for folder in sorted((FOLDER / "ours").iterdir()):
    say(folder.name, SAE.load_from_disk(folder))
changed("ours_changed")

own("standard", StandardSAE(StandardSAEConfig(D, M)))
own("standard_uncentred", StandardSAE(StandardSAEConfig(D, M, apply_b_dec_to_input=False)))
own("topk", TopKSAE(TopKSAEConfig(D, M, k=5)))
own("topk_by_norm", TopKSAE(TopKSAEConfig(D, M, k=5, rescale_acts_by_decoder_norm=True)))
own("jumprelu", JumpReLUSAE(JumpReLUSAEConfig(D, M)))
own("gated", GatedSAE(GatedSAEConfig(D, M)))
transcoder = {"d_in": D, "d_sae": M, "d_out": OUT, "apply_b_dec_to_input": False}
own("transcoder", Transcoder(TranscoderConfig(**transcoder)))
own("skip_transcoder", SkipTranscoder(SkipTranscoderConfig(**transcoder)))
own("jumprelu_transcoder", JumpReLUTranscoder(JumpReLUTranscoderConfig(**transcoder)))
own("jumprelu_skip_transcoder", JumpReLUSkipTranscoder(JumpReLUSkipTranscoderConfig(**transcoder)))
trained("trained_topk", TopKTrainingSAE(TopKTrainingSAEConfig(D, M, k=5)))
trained("trained_batchtopk", BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(D, M, k=5)))
average = {"normalize_activations": "expected_average_only_in"}
trained("scaled_topk", TopKTrainingSAE(TopKTrainingSAEConfig(D, M, k=5, **average)), 0.3)
trained("scaled_batchtopk", BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(D, M, k=5, **average)), 0.3)
widths = MatryoshkaBatchTopKTrainingSAEConfig(D, M, k=5, matryoshka_widths=[12, 24, 48])
trained("trained_matryoshka", MatryoshkaBatchTopKTrainingSAE(widths))
whitened("whitened")
flat("flat")
flat("flat_topk", activation_fn_str="topk", activation_fn_kwargs={"k": 4}, apply_b_dec_to_input=False)
