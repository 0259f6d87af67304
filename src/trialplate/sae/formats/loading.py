"""Which reader a path is for, and reading it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from trialplate.sae.coder import Coder
from trialplate.sae.errors import FormatError
from trialplate.sae.formats import dictionary_learning, gemma_scope, llamascopium, saelens, sparsify, state_dict

_BARE = (".pt", ".pth", ".bin", ".safetensors")


@dataclass(frozen=True, slots=True)
class Format:
    """A format: its name, the files by which a folder of it is known, the file that holds the weights, and its reader, which takes the folder.

    `apart` names a file that folders of this format never have and those of another do."""

    name: str
    files: tuple[str, ...]
    read: Callable[[Path], Coder]
    apart: str = ""

    @property
    def weights(self) -> str:
        """The last of its files."""
        return self.files[-1]

    def fits(self, folder: Path) -> bool:
        """Whether the folder has its files."""
        return all((folder / name).is_file() for name in self.files) and not (
            self.apart and (folder / self.apart).is_file()
        )


FORMATS = (
    Format("saelens", ("cfg.json", "sae_weights.safetensors"), saelens.read),
    Format("sparsify", ("cfg.json", "sae.safetensors"), sparsify.read),
    Format("dictionary_learning", ("config.json", "ae.pt"), dictionary_learning.read),
    Format("gemma_scope_1", ("params.npz",), gemma_scope.read_npz_folder),
    Format("gemma_scope_2", ("config.json", "params.safetensors"), gemma_scope.read_safetensors_folder),
    Format("llamascopium", ("config.json", "sae_weights.safetensors"), llamascopium.read, apart="cfg.json"),
    Format("llamascopium", ("config.json", "sae_weights.pt"), llamascopium.read, apart="cfg.json"),
)


def format_of(path: Path | str) -> tuple[str, Callable[[], Coder]]:
    """The format of a path and what reads it. A path is a folder of one coder, the file of weights in it, or a bare state dict.

    FormatError where nothing or more than one thing is there, with what was found."""
    path = Path(path)
    if path.is_dir():
        return _of_folder(path)
    if not path.is_file():
        raise FormatError(f"no coder at {path}: there is no such file or folder")
    if dictionary_learning.is_snapshot(path):
        return "dictionary_learning", partial(dictionary_learning.read_file, path)
    for known in FORMATS:
        if path.name == known.weights and known.fits(path.parent):
            return known.name, partial(known.read, path.parent)
    if path.suffix in _BARE:
        return "state_dict", partial(state_dict.read, path)
    raise FormatError(f"{path} is no file of weights: wanted one that ends with {', '.join(_BARE)}, or params.npz")


def load_coder(path: Path | str, *, device: torch.device | str = "cpu") -> Coder:
    """The coder at a path, in float32, for inference, on a device. It reads and writes raw activations: scales of training are folded.

    FormatError for files that no reader takes, or that one refuses; OSError where the disk does."""
    return format_of(path)[1]().to(device)


def _of_folder(folder: Path) -> tuple[str, Callable[[], Coder]]:
    fitting = [known for known in FORMATS if known.fits(folder)]
    if len(fitting) > 1:
        found = " and ".join(f"{known.name} ({', '.join(known.files)})" for known in fitting)
        raise FormatError(f"{folder} is a folder of {found}; give the file of weights that is meant")
    if fitting:
        return fitting[0].name, partial(fitting[0].read, folder)
    bare = sorted(file for file in folder.iterdir() if file.suffix in _BARE and file.is_file())
    if len(bare) == 1:
        return "state_dict", partial(state_dict.read, bare[0])
    wanted = "; ".join(f"{known.name}: {' and '.join(known.files)}" for known in FORMATS)
    there = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
    raise FormatError(f"no coder in {folder}: wanted {wanted}, or one file of weights; there is {there}")
