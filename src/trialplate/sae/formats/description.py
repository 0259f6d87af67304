"""What a coder is, for people and reports: its sizes, its sites, its digest, and what is odd about its weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from trialplate.sae.coder import Coder
from trialplate.sae.formats.identity import coder_digest
from trialplate.sae.formats.loading import format_of


@dataclass(frozen=True, slots=True)
class Description:
    """A coder, described.

    format          the format it was read from, "" for one in memory
    digest          its `coder_digest`
    decoder_norm    the smallest and largest norm of a decoder row that is not zero; (0, 0) where all are
    zero_decoder    latents whose decoder row is zero: they write nothing. They are kept as they are
    zero_encoder    latents whose encoder row is zero: they are active always or never
    has_threshold   False for a batchtopk coder that needs one fitted
    notes           what its reader had to do or to leave open"""

    format: str
    digest: str
    architecture: str
    d_in: int
    d_out: int
    d_sae: int
    k: int | None
    signed: bool
    centre_input: bool
    skip: bool
    prefixes: tuple[int, ...]
    site_in: str
    site_out: str
    model: str
    decoder_norm: tuple[float, float]
    zero_decoder: int
    zero_encoder: int
    has_threshold: bool
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def describe(path: Path | str) -> Description:
    """Read the coder at a path and describe it. Raises what `load_coder` raises."""
    name, read = format_of(path)
    return describe_coder(read(), format=name)


@torch.no_grad()
def describe_coder(coder: Coder, *, format: str = "") -> Description:
    """Describe a coder in memory."""
    c = coder.config
    norms = coder.W_dec.float().norm(dim=1)
    live = norms[norms > 0]
    return Description(
        format=format,
        digest=coder_digest(coder),
        architecture=c.architecture,
        d_in=c.d_in,
        d_out=c.d_out,
        d_sae=c.d_sae,
        k=c.k,
        signed=c.signed,
        centre_input=c.centre_input,
        skip=c.skip,
        prefixes=c.prefixes,
        site_in=c.site_in,
        site_out=c.site_out,
        model=c.model,
        decoder_norm=(float(live.min()), float(live.max())) if len(live) else (0.0, 0.0),
        zero_decoder=int((norms == 0).sum()),
        zero_encoder=int((coder.encoder == 0).all(1).sum()),
        has_threshold=c.architecture != "batchtopk" or not bool(coder.threshold.isnan()),
        notes=tuple(c.about.get("notes", ())),
    )
