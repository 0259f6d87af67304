"""Run by dictionary_learning's own Python: drive_dictionary_learning.py FOLDER. Leaves coders in FOLDER/theirs, and for each a file in FOLDER/said with
code and y."""

import json
import sys
from pathlib import Path

import torch
from dictionary_learning.dictionary import AutoEncoder, AutoEncoderNew, GatedAutoEncoder, JumpReluAutoEncoder
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from dictionary_learning.trainers.top_k import AutoEncoderTopK
from dictionary_learning.utils import load_dictionary
from safetensors.torch import load_file, save_file

FOLDER = Path(sys.argv[1])
X = load_file(FOLDER / "x.safetensors")["x"]
D, M = X.shape[1], 48
(FOLDER / "said").mkdir()
generator = torch.Generator().manual_seed(1)


@torch.no_grad()
def own(coder, **settings):
    name = type(coder).__name__
    for key, tensor in coder.state_dict().items():
        if key == "threshold":
            tensor.copy_(torch.rand(tensor.shape, generator=generator))
        elif key not in ("k", "group_sizes"):
            tensor.copy_(0.4 * torch.randn(tensor.shape, generator=generator))
    folder = FOLDER / "theirs" / name
    folder.mkdir(parents=True)
    torch.save(coder.state_dict(), folder / "ae.pt")
    trainer = {"dict_class": name, "activation_dim": D, "dict_size": M, "layer": 3, "lm_name": "gpt2", **settings}
    trainer["submodule_name"] = "resid_post_layer_3"
    (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {"ctx_len": 128}}))
    coder = load_dictionary(str(folder), "cpu")[0]
    save_file({"code": coder.encode(X), "y": coder(X)}, FOLDER / "said" / f"{name}.safetensors")


own(AutoEncoder(D, M))
own(AutoEncoderNew(D, M))
own(GatedAutoEncoder(D, M))
own(JumpReluAutoEncoder(D, M))
own(AutoEncoderTopK(D, M, 5), k=5)
own(BatchTopKSAE(D, M, 5), k=5)
own(MatryoshkaBatchTopKSAE(D, M, 5, [12, 12, 24]), k=5)
