"""A coder from its description and its tensors. Tensors carry the coder's own names and shapes; views and other dtypes are fine, values are copied."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from trialplate.sae.coder import Coder
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import CoderError, FormatError


def configure(where: str, **description: object) -> CoderConfig:
    """A description out of a file; what the description itself refuses is said with the file's name. FormatError."""
    try:
        return CoderConfig(**description)  # type: ignore[arg-type]
    except CoderError as error:
        raise FormatError(f"{where}: {error}") from error


@torch.no_grad()
def assemble(config: CoderConfig, tensors: Mapping[str, Tensor]) -> Coder:
    """The coder with these parameters, in float32, ready for use and without gradients.

    CoderError unless the tensors are exactly those of such a coder, each with its shape."""
    coder = Coder(config).eval().requires_grad_(False)
    own = coder.state_dict()
    wrong = {name: list(tensor.shape) for name, tensor in tensors.items() if name not in own}
    wrong |= {name: [] for name in own.keys() - tensors.keys()}
    wrong |= {n: list(t.shape) for n, t in tensors.items() if n in own and t.shape != own[n].shape}
    if wrong:
        wanted = {name: list(tensor.shape) for name, tensor in own.items()}
        raise CoderError(f"a {config.architecture} coder has {wanted}; these do not fit: {wrong}")
    for name, tensor in tensors.items():
        own[name].copy_(tensor)
    return coder
