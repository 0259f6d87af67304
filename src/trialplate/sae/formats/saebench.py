"""Coders as SAEBench wants them: objects with encode, decode, W_enc [d, m], W_dec [m, d], b_enc, b_dec, device, dtype and cfg; and such objects as coders.

An object of somebody's own class has a function that only its code knows. `from_saebench` therefore takes its tensors, tries what they can mean here, and
accepts the reading that encodes and decodes a fixed batch as the object does; where none does, it refuses."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trialplate.sae.coder import Coder
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import CoderError
from trialplate.sae.formats.assembly import assemble
from trialplate.sae.formats.sites import hook_of, site_of
from trialplate.sae.latents import Latents

_UNIT = 1e-5  # what the loaders of SAEBench allow
_TOLERANCE = 1e-5  # of the largest value
_PROBES = 64


@dataclass
class SaeBenchConfig:
    """The entries of cfg that SAEBench asks for."""

    model_name: str
    d_in: int
    d_sae: int
    hook_layer: int
    hook_name: str
    architecture: str
    dtype: str
    context_size: int = 128
    prepend_bos: bool = True
    hook_head_index: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as the results quote it."""
        return asdict(self)


class SaeBenchCoder(nn.Module):
    """A coder in SAEBench's clothes: dense codes, any leading axes. Its tensors are the coder's own, views of them."""

    def __init__(self, coder: Coder, cfg: SaeBenchConfig) -> None:
        super().__init__()
        self.coder, self.cfg = coder, cfg

    @property
    def W_enc(self) -> Float[Tensor, "d_in d_sae"]:
        """Encoder."""
        return self.coder.W_enc

    @property
    def W_dec(self) -> Float[Tensor, "d_sae d_in"]:
        """Decoder."""
        return self.coder.W_dec

    @property
    def b_enc(self) -> Float[Tensor, " d_sae"]:
        """Bias of the encoder; a gated coder's gate."""
        return self.coder.b_gate if self.coder.config.architecture == "gated" else self.coder.b_enc

    @property
    def b_dec(self) -> Float[Tensor, " d_in"]:
        """Bias of the decoder."""
        return self.coder.b_dec

    @property
    def k(self) -> int | None:
        """Latents a token, for coders that have such a number."""
        return self.coder.config.k

    @property
    def threshold(self) -> Tensor | None:
        """Thresholds of jumprelu and batchtopk coders."""
        return self.coder.threshold if self.coder.config.architecture in ("jumprelu", "batchtopk") else None

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self.coder.W_dec.device

    @property
    def dtype(self) -> torch.dtype:
        """What they are."""
        return self.coder.W_dec.dtype

    def encode(self, x: Float[Tensor, "*n d_in"]) -> Float[Tensor, "*n d_sae"]:
        """The dense code."""
        code = self.coder.encode(x.reshape(-1, x.shape[-1]).to(self.dtype)).dense()
        return code.reshape(*x.shape[:-1], -1)

    def decode(self, code: Float[Tensor, "*n d_sae"]) -> Float[Tensor, "*n d_in"]:
        """The reconstruction of a dense code."""
        y = self.coder.decode(Latents.from_dense(code.reshape(-1, code.shape[-1])))
        return y.reshape(*code.shape[:-1], -1)

    def forward(self, x: Float[Tensor, "*n d_in"]) -> Float[Tensor, "*n d_in"]:
        """The reconstruction."""
        return self.decode(self.encode(x))


def for_saebench(
    coder: Coder, *, model_name: str, hook_name: str = "", hook_layer: int | None = None, context_size: int = 128
) -> SaeBenchCoder:
    """An object that SAEBench's evaluations take. hook_name is the coder's own site where it is not given, hook_layer the one that the hook names.

    CoderError for a transcoder, which SAEBench would judge as a reconstruction of its own input, and for decoder rows that are not of norm 1 within 1e-5,
    dead ones included, which its loaders refuse: `folding.with_unit_decoder` first."""
    if coder.config.is_transcoder:
        raise CoderError("SAEBench judges reconstructions of one site, and this coder writes another than it reads")
    norms = coder.W_dec.detach().float().norm(dim=1)
    off = float((norms - 1).abs().max())
    if not off <= _UNIT:
        raise CoderError(
            f"SAEBench expects decoder rows of norm 1, and one of these is {off:.3g} away ({int((norms == 0).sum())} are zero); "
            "see trialplate.sae.formats.folding.with_unit_decoder"
        )
    c, hook = coder.config, hook_name or hook_of(coder.config.site_in)
    layer = re.match(r"blocks\.(\d+)\.", hook)
    if hook_layer is None and layer is None:
        raise CoderError(
            f"no layer is named by the hook {hook!r}; give hook_name=, such as blocks.3.hook_resid_post, or hook_layer="
        )
    cfg = SaeBenchConfig(
        model_name=model_name,
        d_in=c.d_in,
        d_sae=c.d_sae,
        hook_layer=int(layer[1]) if hook_layer is None and layer is not None else int(hook_layer or 0),
        hook_name=hook,
        architecture=c.architecture,
        dtype=str(coder.W_dec.dtype).removeprefix("torch."),
        context_size=context_size,
    )
    return SaeBenchCoder(coder, cfg)


@torch.no_grad()
def from_saebench(sae: Any, *, generator: torch.Generator | None = None) -> Coder:
    """A coder that computes what an object for SAEBench computes, in float32 on the CPU.

    Read are relu, topk (`k`), batchtopk and jumprelu (`threshold`, a number or one a latent), with b_dec taken off the input or not. CoderError where an
    attribute is missing, shapes do not fit, or no reading agrees with the object on a batch of Gaussian rows within 1e-5 of the largest value."""
    tensors = {name: _tensor(sae, name) for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
    m, d = len(tensors["b_enc"]), len(tensors["b_dec"])
    for name, shape in (("W_enc", (d, m)), ("W_dec", (m, d))):
        if tensors[name].shape != shape:
            raise CoderError(f"wanted {name} {list(shape)}, got {list(tensors[name].shape)}")
    x = torch.randn(_PROBES, d, generator=generator or torch.Generator().manual_seed(0))
    x = x * (float(tensors["b_dec"].square().mean().sqrt()) or 1.0) + tensors["b_dec"]
    code = sae.encode(x.to(tensors["W_enc"].dtype)).float().cpu()
    back = sae.decode(code.to(getattr(sae, "dtype", code.dtype))).float().cpu()
    for description, extra in _readings(sae, m):
        for centred in (True, False):
            coder = _reading(sae, tensors, description, extra, centred)
            if _near(coder.encode(x).dense(), code) and _near(coder.decode(Latents.from_dense(code)), back):
                return coder
    raise CoderError(
        f"no reading of this {type(sae).__name__} encodes as it does: tried relu, topk, batchtopk and jumprelu with the k and threshold that it has"
    )


def _tensor(sae: Any, name: str) -> Tensor:
    value = getattr(sae, name, None)
    if not isinstance(value, Tensor):
        raise CoderError(f"{type(sae).__name__} has no tensor {name}; SAEBench asks for W_enc, W_dec, b_enc and b_dec")
    return value.detach().float().cpu()


def _readings(sae: Any, m: int) -> list[tuple[dict[str, Any], dict[str, Tensor]]]:
    """What the attributes can mean, most particular first."""
    k, threshold = getattr(sae, "k", None), getattr(sae, "threshold", None)
    found: list[tuple[dict[str, Any], dict[str, Tensor]]] = []
    if threshold is not None:
        level = torch.as_tensor(threshold).detach().float().cpu()
        if level.numel() == m:
            found.append(({"architecture": "jumprelu"}, {"threshold": level.reshape(m)}))
        if level.numel() == 1 and k is not None and float(level) >= 0:
            found.append(({"architecture": "batchtopk", "k": int(k)}, {"threshold": level.reshape(())}))
        elif level.numel() == 1:
            found.append(({"architecture": "jumprelu"}, {"threshold": level.reshape(1).expand(m)}))
    if k is not None:
        found += [({"architecture": "topk", "k": int(k), "signed": signed}, {}) for signed in (False, True)]
    return [*found, ({"architecture": "relu"}, {})]


def _reading(
    sae: Any, tensors: dict[str, Tensor], description: dict[str, Any], extra: dict[str, Tensor], centred: bool
) -> Coder:
    cfg = getattr(sae, "cfg", None)
    site = site_of(str(getattr(cfg, "hook_name", "") or ""))
    config = CoderConfig(
        d_in=len(tensors["b_dec"]),
        d_sae=len(tensors["b_enc"]),
        centre_input=centred,
        site_in=site,
        site_out=site,
        model=str(getattr(cfg, "model_name", "") or ""),
        about={"format": "saebench", "class": type(sae).__name__},
        **description,
    )
    names = {"encoder": tensors["W_enc"].T, **{n: tensors[n] for n in ("W_dec", "b_enc", "b_dec")}, **extra}
    return assemble(config, names)


def _near(ours: Tensor, theirs: Tensor) -> bool:
    """Whether two results agree. A pre-activation that rounding puts on the other side of a threshold is no disagreement: one in a million may."""
    scale = float(theirs.abs().max())
    if ours.shape != theirs.shape or not math.isfinite(scale):
        return False
    return float(((ours - theirs).abs() > _TOLERANCE * scale).double().mean()) <= 1e-6
