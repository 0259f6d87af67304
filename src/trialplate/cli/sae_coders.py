"""Which coder is trained and how, on the command line: one description and its settings, from which studies vary what they vary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from trialplate.cli.sae_lists import whole_numbers
from trialplate.cli.study_inputs import InputError

if TYPE_CHECKING:
    from trialplate.cli.sae_inputs import Opened
    from trialplate.sae.coder import Coder
    from trialplate.sae.config import CoderConfig
    from trialplate.sae.settings import TrainingSettings

Steps = Annotated[int, typer.Option(min=1, help="Steps of training.")]
_DRIVEN = ("relu", "jumprelu")
"""Architectures without k: a penalty is moved until their L0 is the target."""
Order = Annotated[
    str, typer.Option(help="shared: all seeds see the rows in one order; own: each in an order of its own.")
]


@dataclass(frozen=True)
class CoderOptions:
    """The coder that is trained. What is left open follows from the width of the rows, or from --checkpoint where a command has one."""

    architecture: Annotated[
        str | None, typer.Option(help="relu, topk, batchtopk, jumprelu or routed; topk by default.")
    ] = None
    d_sae: Annotated[int | None, typer.Option(min=1, help="Latents; four times the channels by default.")] = None
    k: Annotated[
        int | None, typer.Option(min=1, help="Active latents a token; a sixteenth of the channels by default.")
    ] = None
    l0_target: Annotated[
        float | None,
        typer.Option(help="Active latents that relu and jumprelu are driven to; by default what k would be."),
    ] = None
    prefixes: Annotated[
        list[str] | None, typer.Option(help="Sizes of nested dictionaries (Matryoshka); several may follow.")
    ] = None
    skip: Annotated[bool, typer.Option("--skip", help="A transcoder with a linear path beside its latents.")] = False
    n_experts: Annotated[int, typer.Option(min=1, help="Slices of a routed coder.")] = 4
    steps: Steps = 1000
    batch_size: Annotated[int, typer.Option(min=1, help="Rows a step.")] = 1024
    lr: Annotated[
        float | None, typer.Option(help="Learning rate; by default by the rule of Gao et al. for the width.")
    ] = None
    data_seed: Annotated[int, typer.Option(min=0, help="Of the order of the rows.")] = 0
    backend: Annotated[str | None, typer.Option(help="sparse, numba or autograd: what computes gradients.")] = None


def description(options: CoderOptions, opened: Opened, like: Coder | None = None, **changes: Any) -> CoderConfig:
    """The coder that the options name, for these rows; what they leave open is as in the coder `like`, where one is given.

    CoderError for what cannot be; InputError for --skip without a second site."""
    from trialplate.sae.config import CoderConfig

    given = like.config if like is not None else None
    architecture = (
        changes.pop("architecture", None) or options.architecture or (given.architecture if given else "topk")
    )
    rows, is_transcoder = opened.rows, opened.rows.is_paired
    with_k = architecture in ("topk", "batchtopk", "routed")
    if options.skip and not is_transcoder:
        raise InputError("--skip is a path of transcoders, from one site to another: give --hook-name-out")
    known = {
        "architecture": architecture,
        "d_in": rows.d_in,
        "d_out": rows.d_out,
        "d_sae": options.d_sae or (given.d_sae if given else 4 * rows.d_in),
        "k": _k(options, opened, like) if with_k else None,
        "n_experts": options.n_experts if architecture == "routed" else None,
        "centre_input": not is_transcoder,
        "skip": options.skip or bool(given and given.skip and is_transcoder),
        "prefixes": whole_numbers("--prefixes", options.prefixes, ()),
        "site_in": opened.site_in,
        "site_out": opened.site_out,
        "model": opened.model_name,
    }
    return CoderConfig(**{**known, **changes})


def require_l0_target(options: CoderOptions, architectures: Sequence[str]) -> None:
    """InputError for an --l0-target that is no number of latents, or that none of these architectures is driven to."""
    target = options.l0_target
    if target is None:
        return
    if not target > 0:
        raise InputError(f"--l0-target: wanted active latents a token, more than 0, got {target:g}")
    if not set(architectures) & set(_DRIVEN):
        raise InputError(
            f"--l0-target is what {' and '.join(_DRIVEN)} are driven to, and {', '.join(architectures)} is told by --k; "
            "leave it out, or train one of them"
        )


def training(
    options: CoderOptions, opened: Opened, coder: CoderConfig, beside: Sequence[str] = (), **changes: Any
) -> TrainingSettings:
    """How it is trained. beside: the architectures that are trained with the same options.

    InputError for a backend that is none, and as `require_l0_target`; TrainingError for settings that cannot be."""
    from trialplate.sae.settings import Backend, TrainingSettings

    require_l0_target(options, list(dict.fromkeys((coder.architecture, *beside))))
    if options.backend is not None and options.backend not in get_args(Backend):
        raise InputError(f"--backend: wanted one of {', '.join(get_args(Backend))}, got {options.backend!r}")
    known: dict[str, Any] = {
        "steps": options.steps,
        "batch_size": options.batch_size,
        "lr": options.lr,
        "data_seed": options.data_seed,
        "backend": options.backend,
    }
    if coder.architecture in _DRIVEN:
        known["l0_target"] = options.l0_target or float(_k(options, opened, None))
    return TrainingSettings(**{**known, **changes})


def order_of(given: str) -> Literal["shared", "own"]:
    """The value of --order. InputError for any other."""
    if given not in ("shared", "own"):
        raise InputError(f"--order: wanted shared or own, got {given!r}")
    return "own" if given == "own" else "shared"


def _k(options: CoderOptions, opened: Opened, like: Coder | None) -> int:
    if options.k is not None:
        return options.k
    if like is not None and like.config.k is not None:
        return like.config.k
    return max(1, opened.rows.d_in // 16)
