"""Faults of the files: weights that are damaged, moved, renamed or recast, and a configuration that computes something else with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tests.kill_matrix.sabotage import Sabotage, Scene, Tensors, on_files, on_json, on_stored

LAYER = "gpt_neox.layers.{}."


def swapped_neurons(tensors: Tensors, scene: Scene) -> None:
    weight = tensors[LAYER.format(1) + "mlp.dense_h_to_4h.weight"]
    weight[[0, 1]] = weight[[1, 0]]


def nan_weight(tensors: Tensors, scene: Scene) -> None:
    tensors[LAYER.format(1) + "mlp.dense_4h_to_h.weight"][3, 5] = torch.nan


def zeroed_head(tensors: Tensors, scene: Scene) -> None:
    heads = [m for m in scene.baseline.measurements if m.metric == "prefix_matching" and m.params["head"] != "best"]
    best = max(heads, key=lambda m: m.value)
    n_heads = 1 + max(int(m.params["head"]) for m in heads)
    dense = tensors[LAYER.format(best.params["layer"]) + "attention.dense.weight"]
    width = dense.shape[1] // n_heads
    start = int(best.params["head"]) * width
    dense[:, start : start + width] = 0


def random_weights(tensors: Tensors, scene: Scene) -> None:
    generator = torch.Generator().manual_seed(0)
    for tensor in tensors.values():
        if tensor.dim() == 2:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * tensor.float().std())


def transposed(tensors: Tensors, scene: Scene) -> None:
    name = LAYER.format(2) + "attention.dense.weight"
    tensors[name] = tensors[name].T


def head_is_embedding(tensors: Tensors, scene: Scene) -> None:
    tensors["embed_out.weight"] = tensors["gpt_neox.embed_in.weight"].clone()


def constant_head(tensors: Tensors, scene: Scene) -> None:
    tensors["embed_out.weight"].zero_()


def renamed_key(tensors: Tensors, scene: Scene) -> None:
    tensors["gpt_neox.final_norm.weight"] = tensors.pop("gpt_neox.final_layer_norm.weight")


def missing_key(tensors: Tensors, scene: Scene) -> None:
    del tensors[LAYER.format(3) + "attention.dense.bias"]


def extra_key(tensors: Tensors, scene: Scene) -> None:
    tensors[LAYER.format(0) + "attention.gate.weight"] = torch.ones(4)


def reshaped(tensors: Tensors, scene: Scene) -> None:
    tensors["embed_out.weight"] = tensors["embed_out.weight"][:-1]


def as_bfloat16(tensors: Tensors, scene: Scene) -> Tensors:
    return {name: tensor.bfloat16() for name, tensor in tensors.items()}


def truncated_file(folder: Path, scene: Scene) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1024])


def other_rotary(config: dict[str, Any]) -> None:
    config["rope_parameters"]["partial_rotary_factor"] = 1.0


SABOTAGES: tuple[Sabotage, ...] = (
    on_stored("swapped-neurons", "Two rows of one MLP matrix have changed places.", swapped_neurons),
    on_stored("nan-weight", "One weight is NaN.", nan_weight),
    on_stored("zeroed-head", "The output of the strongest induction head is cut off.", zeroed_head),
    on_stored("random-weights", "Every matrix holds noise of its own scale.", random_weights),
    on_stored("transposed-matrix", "A square attention matrix is stored transposed.", transposed),
    on_stored("head-is-embedding", "The output head is a copy of the embedding.", head_is_embedding),
    on_stored("constant-model", "The output head is zero: every token is equally likely, every choice a tie.", constant_head),
    on_stored("renamed-key", "A tensor has another name in the file.", renamed_key),
    on_stored("missing-key", "A tensor is not in the file.", missing_key),
    on_stored("extra-key", "The file holds a tensor that the model does not know.", extra_key),
    on_stored("reshaped", "The output head lacks its last row.", reshaped),
    on_stored("stored-as-bfloat16", "The tensors are stored in bfloat16 instead of float16.", as_bfloat16),
    on_files("truncated-file", "The last kilobyte of the weights file is gone.", truncated_file),
    on_json("other-rotary", "The configuration rotates all dimensions of a head instead of half of them.", "config.json", other_rotary),
)  # fmt: skip
