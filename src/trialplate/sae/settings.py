"""Everything about a training run that is not the coder's own description, as one frozen record; also what it means for a given coder.

Three seeds, each for one thing: `init_seed` the weights before training, `data_seed` the order of the rows, `eval_seed` which held-out rows
are measured where there are more than `eval_rows`. Lengths called a share are shares of `steps`."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import TrainingError

Backend = Literal["sparse", "numba", "autograd"]
DecoderNorm = Literal["unit", "free"]
Scale = Literal["rms", "none"]
Centre = Literal["mean", "median", "zeros"]

WITH_SPARSE_STEP = ("topk", "batchtopk")
LONGEST_SILENCE = 10_000_000
"""Tokens without a firing after which a latent is dead, in runs that are long (Gao et al. 2024)."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a coder is trained. None means the default that `resolved` puts in its place; TrainingError for what cannot be.

    steps, batch_size      optimizer steps; rows a step
    lr                     of Adam (0.9, 0.999); None: 2e-4 / sqrt(d_sae / 2^14) (Gao et al. 2024)
    lr_warmup, lr_decay    shares of the steps: a linear rise at the beginning, a linear fall to 0 at the end
    l1                     relu: coefficient of E sum_j f_j ||d_j||, in scaled units
    l0                     jumprelu: coefficient of E L0, in scaled units
    bandwidth, threshold   jumprelu: width of the window of its straight-through estimators, and the threshold at the beginning, both in units of the
                           inputs' root mean square norm (Rajamanoharan et al. 2024 scale that norm to 1 and take 0.001)
    sparsity_warmup        share of the steps in which l1 or l0 rises linearly from 0
    l0_target              relu, jumprelu: the coefficient is moved until L0 is this; see `l0_target`
    k_start, k_anneal      k falls linearly from k_start to the coder's k in this share of the steps
    aux, aux_k             coefficient of the AuxK term, and how many dead latents it may use (None: half of d_out); 0 leaves it out.
                           None: 1/32, and 0 for relu, where a dead latent has no positive pre-activation that could explain anything
    dead_after_tokens      tokens without a firing that make a latent dead; None: 10 million, or a tenth of all the run's tokens if that is less
    decoder_norm           "unit": rows are kept at norm 1, and gradients along them are taken out first; "free": neither
    scale                  "rms": inputs are multiplied so that E ||x||^2 = d_in, a transcoder's targets so that E ||y||^2 = d_out;
                           every coder on disk or given back reads and writes raw activations all the same
    centre                 b_dec at the beginning: the mean or the geometric median of the targets, or zeros
    prefix_weight          coefficient of the mean reconstruction loss over the config's prefixes
    multi                  coefficient of the reconstruction loss with four times k latents (Gao et al. 2024 take 1/8)
    router_balance         coefficient of a router's load balance, times d_out (what a mean squared error is measured against)
    eval_rows              at most so many held-out rows are measured; None: all
    log_every              steps from one line of metrics to the next; None: a hundredth of the steps
    backend                what computes gradients: "sparse" and "numba" for topk and batchtopk, "autograd" for all;
                           None: "sparse" where there is one, else "autograd" """

    steps: int
    batch_size: int = 4096
    lr: float | None = None
    lr_warmup: float = 0.05
    lr_decay: float = 0.2
    l1: float = 0.0
    l0: float = 0.0
    bandwidth: float = 1e-3
    threshold: float = 1e-3
    sparsity_warmup: float = 0.1
    l0_target: float | None = None
    k_start: int | None = None
    k_anneal: float = 0.1
    aux: float | None = None
    aux_k: int | None = None
    dead_after_tokens: int | None = None
    decoder_norm: DecoderNorm = "unit"
    scale: Scale = "rms"
    centre: Centre = "mean"
    prefix_weight: float = 1.0
    multi: float = 0.0
    router_balance: float = 1 / 32
    init_seed: int = 0
    data_seed: int = 0
    eval_seed: int = 0
    eval_rows: int | None = None
    log_every: int | None = None
    backend: Backend | None = None

    def __post_init__(self) -> None:
        counts = ("steps", "batch_size", "k_start", "aux_k", "dead_after_tokens", "eval_rows", "log_every")
        shares = ("lr_warmup", "lr_decay", "sparsity_warmup", "k_anneal")
        sizes = ("l1", "l0", "aux", "prefix_weight", "multi", "router_balance", "threshold")
        for name in counts:
            self._require(name, lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1")
        for name in shares:
            self._require(name, lambda v: 0 <= v <= 1, "a share of the steps, 0 to 1")
        for name in sizes:
            self._require(name, lambda v: math.isfinite(v) and v >= 0, "a finite number that is not negative")
        for name in ("lr", "bandwidth", "l0_target"):
            self._require(name, lambda v: math.isfinite(v) and v > 0, "a positive finite number")
        for name in ("init_seed", "data_seed", "eval_seed"):
            self._require(name, lambda v: isinstance(v, int) and 0 <= v < 2**63, "a seed from 0 to 2^63 - 1")
        choices = {"decoder_norm": DecoderNorm, "scale": Scale, "centre": Centre, "backend": Backend}
        for name, known in choices.items():
            self._require(name, lambda v, known=known: v in get_args(known), f"one of {', '.join(get_args(known))}")

    def _require(self, name: str, holds: Any, wanted: str) -> None:
        value = getattr(self, name)
        if value is not None and not holds(value):
            raise TrainingError(f"training settings: wanted {name} to be {wanted}, got {value!r}")

    def with_(self, **changes: Any) -> TrainingSettings:
        """The same settings with some entries changed."""
        return replace(self, **changes)


def resolved(settings: TrainingSettings, config: CoderConfig) -> TrainingSettings:
    """The settings with every default filled in for a coder; idempotent. TrainingError for settings that do not fit it."""
    _require_fit(settings, config)
    kind, tokens = config.architecture, settings.steps * settings.batch_size
    defaults: dict[str, Any] = {
        "lr": 2e-4 / math.sqrt(config.d_sae / 2**14),
        "aux": 0.0 if kind == "relu" else 1 / 32,
        "aux_k": max(1, config.d_out // 2),
        "dead_after_tokens": max(1, min(LONGEST_SILENCE, tokens // 10)),
        "log_every": max(1, settings.steps // 100),
        "backend": "sparse" if kind in WITH_SPARSE_STEP else "autograd",
    }
    missing = {name: value for name, value in defaults.items() if getattr(settings, name) is None}
    return replace(
        settings,
        prefix_weight=settings.prefix_weight if config.prefixes else 0.0,
        router_balance=settings.router_balance if kind == "routed" else 0.0,
        **missing,
    )


def coder_name(config: CoderConfig, settings: TrainingSettings) -> str:
    """The name of a coder's folder: what people look for, and a hash of everything, so that two different plans never share one."""
    return f"{stem(config, settings)}-{plan_digest(config, settings)[:8]}"


def stem(config: CoderConfig, settings: TrainingSettings) -> str:
    """The part of a name that people look for: topk-m4096-k32-seed0."""
    return f"{config.architecture}-m{config.d_sae}-{_sparsity(config, settings)}-seed{settings.init_seed}"


def plan_digest(config: CoderConfig, settings: TrainingSettings) -> str:
    """sha256 (hex) of a coder's description and its resolved settings."""
    both = {"config": plain(config), "settings": plain(resolved(settings, config))}
    return hashlib.sha256(json.dumps(both, sort_keys=True).encode()).hexdigest()


def _sparsity(config: CoderConfig, settings: TrainingSettings) -> str:
    if config.k is not None:
        return f"k{config.k}"
    if settings.l0_target is not None:
        return f"target{settings.l0_target:g}"
    return f"l1.{settings.l1:g}" if config.architecture == "relu" else f"l0.{settings.l0:g}"


def changed(settings: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The entries in which two plain records differ, as "name: one instead of another"."""
    names = sorted(settings.keys() | other.keys())
    return [f"{n}: {other.get(n)!r} instead of {settings.get(n)!r}" for n in names if settings.get(n) != other.get(n)]


def plain(record: CoderConfig | TrainingSettings) -> dict[str, Any]:
    """A record as JSON has it: lists for tuples, dicts for mappings."""
    found: dict[str, Any] = json.loads(
        json.dumps({f.name: getattr(record, f.name) for f in fields(record)}, default=dict)
    )
    return found


def _require_fit(settings: TrainingSettings, config: CoderConfig) -> None:
    kind = config.architecture
    if kind == "gated":
        raise TrainingError(
            "a gated coder can be read and judged, not trained; jumprelu does what it does with fewer parts"
        )
    coefficients = {"relu": settings.l1, "jumprelu": settings.l0}
    if kind in coefficients and not coefficients[kind] and settings.l0_target is None:
        name = "l1" if kind == "relu" else "l0"
        raise TrainingError(f"nothing would make this {kind} coder sparse: give {name}, or l0_target")
    wrong = {
        "l1": settings.l1 and kind != "relu",
        "l0": settings.l0 and kind != "jumprelu",
        "l0_target": settings.l0_target is not None and kind not in coefficients,
        "k_start": settings.k_start is not None and config.k is None,
        "multi": settings.multi and kind not in WITH_SPARSE_STEP,
        "aux": settings.aux and kind == "relu",
        "backend": settings.backend in ("sparse", "numba") and kind not in WITH_SPARSE_STEP,
    }
    if named := [name for name, is_wrong in wrong.items() if is_wrong]:
        found = ", ".join(f"{name}={getattr(settings, name)!r}" for name in named)
        raise TrainingError(f"{found} means nothing for this {kind} coder; leave it out")
    _require_sizes(settings, config)


def _require_sizes(settings: TrainingSettings, config: CoderConfig) -> None:
    k, start, target = config.k, settings.k_start, settings.l0_target
    if k is not None and start is not None and not k <= start <= config.d_sae // (config.n_experts or 1):
        raise TrainingError(f"k falls from k_start to k: wanted {k} <= k_start <= {config.d_sae}, got {start}")
    if target is not None and target >= config.d_sae:
        raise TrainingError(f"wanted an l0_target below the {config.d_sae} latents there are, got {target}")
    if config.prefixes and config.architecture == "routed" and settings.prefix_weight:
        raise TrainingError(
            "the slices of a routed coder lie one after another, so a prefix of it holds whole experts only; drop the prefixes"
        )
