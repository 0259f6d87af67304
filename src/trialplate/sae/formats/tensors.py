"""The tensors of one file, taken by name and shape; nothing is left over, nothing is guessed.

Files are safetensors, torch files that hold no code, or NumPy archives without pickles. A reader names every key first (`exact`), reads the sizes
off the biases (`length`), and then takes each tensor with the shape it must have. Which way a matrix lies is decided by these sizes; where both are
equal the shape says nothing, and the layout of the format decides. That a matrix has more rows than columns never decides anything."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from trialplate.checkpoints.errors import CheckpointError
from trialplate.checkpoints.tensors import DAMAGE, open_safetensors
from trialplate.sae.errors import FormatError

Stored = Literal["latents first", "channels first"]


class Tensors:
    """Named tensors and the file they come from, for messages."""

    def __init__(self, tensors: Mapping[str, Tensor], where: Path | str) -> None:
        self.tensors, self.where = dict(tensors), str(where)

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def exact(self, wanted: Collection[str], optional: Collection[str] = ()) -> None:
        """FormatError unless the keys are these, with or without the optional ones; the message names every key that is amiss."""
        missing = sorted(set(wanted) - self.tensors.keys())
        unknown = sorted(self.tensors.keys() - set(wanted) - set(optional))
        if missing or unknown:
            amiss = "; ".join(
                f"{what}: {', '.join(names)}" for what, names in (("missing", missing), ("unknown", unknown)) if names
            )
            raise FormatError(f"{self.where}: wanted the tensors {', '.join(sorted(wanted))}; {amiss}")

    def length(self, name: str) -> int:
        """The length of a vector, from which sizes are read."""
        shape = self.tensors[name].shape
        if len(shape) != 1:
            raise FormatError(f"{self.where}: wanted {name} to be a vector, got {list(shape)}")
        return shape[0]

    def take(self, name: str, *shape: int) -> Tensor:
        """A tensor of floating numbers with this very shape. FormatError for another, and for one that holds NaN."""
        tensor = self.tensors[name]
        if tuple(tensor.shape) != shape:
            turned = " (it is transposed)" if len(shape) == 2 and tuple(tensor.shape) == shape[::-1] else ""
            raise FormatError(f"{self.where}: wanted {name} {list(shape)}, got {list(tensor.shape)}{turned}")
        if not tensor.is_floating_point():
            raise FormatError(f"{self.where}: wanted {name} in floating point, got {tensor.dtype}")
        if bool(tensor.isnan().any()):
            raise FormatError(f"{self.where}: {name} holds NaN; a coder with it computes nothing")
        return tensor

    def latents_first(
        self, name: str, d_sae: int, width: int, *, stored: Stored | None
    ) -> Float[Tensor, "d_sae width"]:
        """A matrix as [d_sae, width], whichever way it lies in the file.

        Its shape decides. Where d_sae == width both readings fit, and the format's own layout decides: `stored`; FormatError where there is none."""
        tensor = self.tensors[name]
        if d_sae == width and stored is None:
            raise FormatError(
                f"{self.where}: {name} is square, {list(tensor.shape)}, and nothing says whether its rows are latents or channels; "
                "give the coder in a format that does, such as SAELens'"
            )
        channels_first = stored == "channels first" if d_sae == width else tuple(tensor.shape) == (width, d_sae)
        return self.take(name, width, d_sae).T if channels_first else self.take(name, d_sae, width)

    def number(self, name: str) -> float:
        """A scalar."""
        tensor = self.tensors[name]
        if tensor.numel() != 1:
            raise FormatError(f"{self.where}: wanted {name} to be one number, got {list(tensor.shape)}")
        return float(tensor.reshape(()))


def read_safetensors(path: Path) -> Tensors:
    """All tensors of a safetensors file. FormatError for one that is missing or damaged."""
    try:
        with open_safetensors(path) as file:
            return Tensors({name: file.get_tensor(name) for name in file.keys()}, path)  # noqa: SIM118 - not a dict
    except CheckpointError as error:
        raise FormatError(str(error)) from error


def read_torch(path: Path) -> Mapping[str, Any]:
    """The mapping that torch.save wrote, tensors and plain data; code in it is refused, not run. FormatError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # of how to load without weights_only, which is never done here
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FormatError(
            f"{path} is a pickle that needs code to load; such files are refused. Convert it to safetensors where you trust it."
        ) from error
    except DAMAGE as error:
        raise FormatError(f"{path} is not a readable torch file{_said(error)}. Fetch or write it again.") from error
    if not isinstance(content, Mapping):
        raise FormatError(f"{path} holds a {type(content).__name__}: wanted a mapping of names to tensors")
    return content


def _said(error: Exception) -> str:
    """What an error says, where it says anything: of some damage the unpickler knows no more than a byte's number."""
    text = " ".join(str(error).split()).rstrip(".")
    return f": {text}" if re.search(r"[a-z]{3}", text, re.IGNORECASE) else f" ({type(error).__name__})"


def flat(content: Mapping[str, Any], where: Path | str) -> Tensors:
    """The tensors of a mapping that holds nothing else. FormatError."""
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise FormatError(f"{where} holds {name!r}, a {type(value).__name__}, where only tensors were expected")
    return Tensors(content, where)


def read_npz(path: Path) -> Tensors:
    """All arrays of a NumPy archive; pickled objects in it are refused, not run. FormatError."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return Tensors({name: torch.from_numpy(archive[name]) for name in archive.files}, path)
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise FormatError(f"{path} is not an archive of plain arrays: {error}. Fetch it again.") from error
