"""Rows that commands about coders read from one file: an array of numpy, or tensors of safetensors; no file that could hold code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trialplate.cli.study_inputs import InputError

if TYPE_CHECKING:
    import numpy as np

    from trialplate.sae.source import Source


def read_array(option: str, path: Path) -> np.ndarray:
    """The array of a .npy file. InputError for what is none; a pickle is not opened."""
    from zipfile import BadZipFile

    import numpy as np

    try:
        found: np.ndarray = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, BadZipFile) as error:
        raise InputError(f"{option} {path} is no array of numpy (.npy): {error}") from error
    if not isinstance(found, np.ndarray):
        raise InputError(f"{option} {path} is an archive of several arrays; give one array (.npy)")
    return found


def rows_of_file(path: Path) -> Source:
    """Rows of a file: an array [n, d], or tensors x [n, d], y [n, d_out] and documents [n]. InputError for no file, and for another kind."""
    import torch

    from trialplate.sae.source import from_tensor

    if not path.exists():
        raise InputError(f"--rows {path}: there is no such file or folder")
    if path.suffix == ".npy":
        return from_tensor(torch.from_numpy(read_array("--rows", path)), name=path.name)
    if path.suffix != ".safetensors":
        raise InputError(f"--rows {path}: wanted a folder of `trialplate capture`, or a file .npy or .safetensors")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = load_file(path)
    except SafetensorError as error:
        raise InputError(f"--rows {path} cannot be read: {error}") from error
    if len(found) == 1:
        return from_tensor(*found.values(), name=path.name)
    if "x" not in found or set(found) - {"x", "y", "documents"}:
        raise InputError(
            f"--rows {path}: wanted one tensor, or x with y and documents where they are known; got {', '.join(sorted(found))}"
        )
    return from_tensor(found["x"], found.get("y"), name=path.name, documents=found.get("documents"))
