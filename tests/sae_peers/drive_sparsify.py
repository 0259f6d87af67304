"""Run by sparsify's own Python: drive_sparsify.py FOLDER. Leaves coders in FOLDER/theirs, and for each a file in FOLDER/said with code and y."""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sparsify import SparseCoder, SparseCoderConfig

FOLDER = Path(sys.argv[1])
X = load_file(FOLDER / "x.safetensors")["x"]
D = X.shape[1]
(FOLDER / "said").mkdir()
generator = torch.Generator().manual_seed(1)


@torch.no_grad()
def own(name, **settings):
    coder = SparseCoder(D, SparseCoderConfig(k=5, **settings))
    for tensor in coder.state_dict().values():
        tensor.copy_(0.4 * torch.randn(tensor.shape, generator=generator))
    coder.save_to_disk(FOLDER / "theirs" / name / "layers.5.mlp")
    coder = SparseCoder.load_from_disk(FOLDER / "theirs" / name / "layers.5.mlp")
    encoded = coder.encode(X)
    code = torch.zeros(len(X), coder.num_latents).scatter(1, encoded.top_indices, encoded.top_acts)
    save_file({"code": code, "y": coder(X).sae_out.contiguous()}, FOLDER / "said" / f"{name}.safetensors")


own("autoencoder", expansion_factor=4)
own("narrow", num_latents=D // 2)
own("square", num_latents=D)
own("transcoder", num_latents=48, transcode=True)
own("skip_transcoder", num_latents=48, transcode=True, skip_connection=True)
own("skip_autoencoder", num_latents=48, skip_connection=True)
