"""Small sets of tensors, and ways to write them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "embed.weight": torch.randn(5, 4, generator=generator),
        "layers.0.q.weight": torch.randn(4, 4, generator=generator),
        "layers.0.k.weight": torch.randn(4, 4, generator=generator),
        "layers.0.bias": torch.randn(4, generator=generator).half(),
        "scale": torch.tensor(2.5),
        "steps": torch.arange(3),
        "brain": torch.randn(2, 3, generator=generator).bfloat16(),
    }


@pytest.fixture
def write_shards():
    """Write tensors over several shards with an index; `files` maps a file name to its tensor names."""

    def write(
        folder: Path, tensors: dict[str, torch.Tensor], files: dict[str, list[str]], kind: str = "safetensors"
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, keys in files.items():
            part = {key: tensors[key] for key in keys}
            save_file(part, folder / name) if kind == "safetensors" else torch.save(part, folder / name)
        weight_map = {key: name for name, keys in files.items() for key in keys}
        stem = "model.safetensors" if kind == "safetensors" else "pytorch_model.bin"
        index = folder / f"{stem}.index.json"
        index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
        return folder

    return write
