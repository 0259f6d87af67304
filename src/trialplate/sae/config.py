"""What a coder is, in plain data: its architecture, its sizes, and where it reads and writes.

Architectures, with pre = W_enc (x - b_dec) + b_enc [m] (without b_dec where `centre_input` is False), after Gao et al. 2024 (arXiv:2406.04093)
unless said otherwise:

    relu       f = max(pre, 0)                                            Bricken et al. 2023
    topk       the k largest pre of a token, then max(., 0)               (signed: the k largest as they are; negative ones may stay)
    batchtopk  training: the n k largest of a batch of n tokens; else f = max(pre, 0) where pre > threshold      Bussmann et al. 2024 (arXiv:2412.06410)
    jumprelu   f = max(pre, 0) where pre > threshold[j]                   Rajamanoharan et al. 2024 (arXiv:2407.14435)
    gated      f = max(e^r_mag p + b_mag, 0) where p + b_gate > 0, with p = W_enc (x - b_dec)       Rajamanoharan et al. 2024 (arXiv:2404.16014); read only
    routed     latents lie in `n_experts` slices; a router picks one slice a token, and topk is taken in it

`prefixes` (nested dictionaries, Matryoshka: Bussmann et al. 2025, arXiv:2503.17547) belong to the loss, not to the function: any architecture can have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, Literal, get_args

from trialplate.sae.errors import CoderError

Architecture = Literal["relu", "topk", "batchtopk", "jumprelu", "gated", "routed"]
ARCHITECTURES: tuple[str, ...] = get_args(Architecture)
TRAINABLE: tuple[str, ...] = tuple(name for name in ARCHITECTURES if name != "gated")
_WITH_K = ("topk", "batchtopk", "routed")


@dataclass(frozen=True)
class CoderConfig:
    """The description of a coder. CoderError for one that cannot be.

    d_in, d_sae     width of what it reads; number of latents m
    d_out           width of what it writes: d_in unless it is a transcoder
    k               active latents a token, for topk, batchtopk (on average) and routed
    signed          topk without the ReLU
    n_experts       slices of a routed coder, as equal as they can be, longer ones first
    centre_input    whether b_dec is subtracted from the input
    skip            whether W_skip x is added to the output (a skip transcoder)
    prefixes        sizes of the nested dictionaries that the loss also asks for, ascending, each below d_sae
    site_in, site_out   sites in the notation of `activations.sites`; equal for an autoencoder, "" where unknown
    model           the label of the model whose activations it reads, "" where unknown
    about           whatever else its file says; plain data"""

    architecture: Architecture
    d_in: int
    d_sae: int
    d_out: int = 0
    k: int | None = None
    signed: bool = False
    n_experts: int | None = None
    centre_input: bool = True
    skip: bool = False
    prefixes: tuple[int, ...] = ()
    site_in: str = ""
    site_out: str = ""
    model: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "d_out", self.d_out or self.d_in)
        object.__setattr__(self, "prefixes", tuple(self.prefixes))
        self._require(self.architecture in ARCHITECTURES, self._architectures(), "architecture")
        self._require(min(self.d_in, self.d_sae, self.d_out) >= 1, "positive sizes", "d_in", "d_sae", "d_out")
        has_k = self.k is not None
        self._require(
            has_k == (self.architecture in _WITH_K), f"k for {', '.join(_WITH_K)}, and only there", "architecture", "k"
        )
        self._require(self.k is None or 1 <= self.k <= self.d_sae, "k between 1 and d_sae", "k", "d_sae")
        self._require(not self.signed or self.architecture == "topk", "signed for topk only", "architecture", "signed")
        has_experts = self.n_experts is not None
        self._require(
            has_experts == (self.architecture == "routed"),
            "n_experts for routed, and only there",
            "architecture",
            "n_experts",
        )
        if self.n_experts is not None and self.k is not None:
            fits = self.n_experts >= 1 and self.k <= self.d_sae // self.n_experts
            self._require(fits, "n_experts slices of at least k latents each", "n_experts", "k", "d_sae")
        rising = all(low < high for low, high in pairwise((0, *self.prefixes, self.d_sae)))
        self._require(rising, "prefixes that rise from 1 and stay below d_sae", "prefixes", "d_sae")
        self._require(
            not self.centre_input or self.d_in == self.d_out,
            "an input of d_out channels where b_dec is subtracted from it",
            "d_in",
            "d_out",
            "centre_input",
        )

    def _require(self, holds: bool, wanted: str, *names: str) -> None:
        """CoderError with the entries that the rule is about."""
        if not holds:
            raise CoderError(f"wanted {wanted}; got {', '.join(f'{name}={getattr(self, name)!r}' for name in names)}")

    def _architectures(self) -> str:
        near = get_close_matches(str(self.architecture), ARCHITECTURES, n=1)
        meant = f" (is it {near[0]}?)" if near else ""
        return f"an architecture of {', '.join(TRAINABLE)}, or gated where a coder is read{meant}"

    @property
    def is_transcoder(self) -> bool:
        """Whether it writes another site than it reads."""
        return self.site_in != self.site_out or self.d_in != self.d_out or self.skip

    def with_(self, **changes: Any) -> CoderConfig:
        """The same description with some entries changed."""
        return replace(self, **changes)
