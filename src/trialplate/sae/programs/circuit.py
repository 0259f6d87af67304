"""Do coders recover a circuit that is known? The circuit of modular addition: an embedding of n numbers made of few frequencies, each a circle in a plane.

Symbols: E [n, d] the embedding; K its frequencies of the largest shares; U [d, r] what they span in the model's space, one plane a frequency.

    share     of E's variance at K, beside the same of numbers in random order (`metrics.fourier.permuted_share`)
    overlap   mean over alive latents of ||U^T d_j||^2 / ||d_j||^2, less r / d, which random directions show
    recall    share of the planes that a coder can write (`metrics.circle_reading`), at a cosine of 0.9

Positive controls come first (`circuit_controls`), and where they fail nothing else is judged. Coders are the observations: copies of one another are
one coder, and what could not be read, or is of another width, makes the result incomplete."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trialplate.metrics.circle_reading import planes_read
from trialplate.metrics.fourier import fourier_basis, model_subspace, permuted_share, subspace_shares, top_frequencies
from trialplate.metrics.random_directions import gaussian_rows
from trialplate.metrics.statistics import mean
from trialplate.sae.coder import Coder
from trialplate.sae.errors import StudyError
from trialplate.sae.evaluate import core_scores
from trialplate.sae.formats import coder_digest
from trialplate.sae.programs.circuit_controls import ControlOptions, dictionary_control, fourier_control
from trialplate.sae.programs.conditions import lower, shown
from trialplate.sae.programs.results import plain
from trialplate.sae.programs.seeds import MIN_SEEDS
from trialplate.sae.source import Source

Status = Literal["recovered", "not recovered", "incomplete", "control failed"]
Matrix = NDArray[np.float64]
_RANDOM_CODERS = 20


@dataclass(frozen=True)
class CircuitOptions:
    """n_frequencies: size of K, as the circuit is known to have. least_share: share of E above the mean of its null; least_overlap: lower end of the interval of
    overlap; least_recall: mean recall. draws: random orders of the null, of which the share must be above all but 1 in 20."""

    n_frequencies: int = 5
    least_share: float = 0.1
    least_overlap: float = 0.1
    least_recall: float = 0.8
    draws: int = 200
    seed: int = 0
    controls: ControlOptions = field(default_factory=ControlOptions)


@dataclass(frozen=True)
class Given:
    """Coders by name; `unread`: those that could not be read, with the reason."""

    coders: Mapping[str, Coder]
    unread: Mapping[str, str] = field(default_factory=dict)


def run_circuit(options: CircuitOptions, embedding: Matrix, given: Given, rows: Source | None = None) -> dict[str, Any]:
    """The result of `circuit.json`. rows: by which alive latents are told from dead ones; without, all latents with a direction count.

    `status`: recovered, not recovered, incomplete (fewer than 3 different coders, or one that could not be looked at), control failed."""
    rng = np.random.default_rng(options.seed)
    E = np.asarray(embedding, dtype=np.float64)
    controls = {"fourier": fourier_control(options.controls), "dictionary": dictionary_control(options.controls)}
    circuit = _circuit(options, E, rng)
    planes = [model_subspace(E, fourier_basis(len(E), [k])) for k in circuit["frequencies"]]
    distinct, copies, unread = _distinct(given, E.shape[1])
    found = {name: _coder(coder, planes, rows) for name, coder in distinct.items()}
    result = {
        "controls": controls,
        "embedding": circuit,
        "n_given": len(given.coders) + len(given.unread),
        "n_evaluated": len(found),
        "copies": copies,
        "unread": unread,
        "coders": found,
        **_over_coders(found, planes, E.shape[1], rng),
    }
    status, why = _status(options, result)
    digests = {name: coder_digest(coder) for name, coder in distinct.items()}
    subject = {"coders": digests, "embedding": hashlib.sha256(E.tobytes()).hexdigest()}
    whole: dict[str, Any] = plain({"subject": subject, "status": status, "why": why, **result})
    return whole


def circuit_summary(result: Mapping[str, Any]) -> str:
    """The result in Markdown."""
    controls, circuit = result["controls"], result["embedding"]
    lines = [
        "# A known circuit: numbers on circles",
        "",
        f"Status: **{result['status']}**{': ' if result['why'] else ''}{'; '.join(result['why'])}.",
        "",
        f"Controls: planted frequencies explain {controls['fourier']['share']:.3f} of their embedding; a coder found planted features with F1 "
        f"{controls['dictionary']['f1']:.3f} at a cosine of 0.9 (a random one {controls['dictionary']['f1_of_random']:.3f}).",
        "",
        f"Embedding: {circuit['share']:.3f} of its variance at frequencies {circuit['frequencies']}; in random order "
        f"{circuit['null_mean']:.3f} (p {circuit['p_value']:.3g}).",
        "",
        f"{result['n_evaluated']} different coders of {result['n_given']} given.",
    ]
    if result["overlap"] is not None:
        lines += [
            "",
            f"Overlap above chance {shown(result['overlap'])}; recall of planes {shown(result['recall'])}, "
            f"of random coders {result['recall_of_random']:.3f}.",
        ]
    lines += ["", *(f"- not looked at: {name}: {why}" for name, why in result["unread"].items())]
    return "\n".join(lines)


def _circuit(options: CircuitOptions, E: Matrix, rng: np.random.Generator) -> dict[str, Any]:
    frequencies = sorted(int(k) for k in top_frequencies(E, options.n_frequencies))
    found = permuted_share(E, options.n_frequencies, rng, draws=options.draws)
    null = float(found.null.mean())
    return {
        "n": len(E),
        "d": E.shape[1],
        "frequencies": frequencies,
        "share": found.share,
        "null_mean": null,
        "above_null": found.share - null,
        "p_value": found.p_value,
    }


def _distinct(given: Given, d: int) -> tuple[dict[str, Coder], dict[str, str], dict[str, str]]:
    """Coders that differ and write d channels; {copy: the coder it is a copy of}; {name: why it is not looked at}."""
    first: dict[str, str] = {}
    coders: dict[str, Coder] = {}
    copies: dict[str, str] = {}
    unread = dict(given.unread)
    for name, coder in given.coders.items():
        if coder.config.d_out != d:
            unread[name] = f"it writes {coder.config.d_out} channels, and the embedding has {d}"
            continue
        digest = coder_digest(coder)
        if digest in first:
            copies[name] = first[digest]
            continue
        first[digest] = name
        coders[name] = coder
    return coders, copies, unread


def _coder(coder: Coder, planes: Sequence[Matrix], rows: Source | None) -> dict[str, Any]:
    decoder = coder.W_dec.detach().cpu()
    alive = (decoder != 0).any(1).numpy()
    if rows is not None:
        alive &= core_scores(coder, rows).firing.alive
    if not alive.any():
        raise StudyError("a coder has no alive latent on these rows, so it recovers nothing; look at its training")
    kept = decoder[np.flatnonzero(alive)]
    return {
        "n_alive": int(alive.sum()),
        "mean_share": float(subspace_shares(kept, _joined(planes)).mean()),
        "recall": float(planes_read(kept, [plane for plane in planes if plane.shape[1] == 2]).mean()),
    }


def _over_coders(
    found: Mapping[str, Mapping[str, Any]], planes: Sequence[Matrix], d: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Overlap and recall over coders, and what random directions show."""
    chance = _joined(planes).shape[1] / d
    m = max((coder["n_alive"] for coder in found.values()), default=0)
    nothing: dict[str, Any] = {"chance": chance, "overlap": None, "recall": None, "recall_of_random": None}
    if not found:
        return nothing
    circles = [plane for plane in planes if plane.shape[1] == 2]
    random = [float(planes_read(gaussian_rows(m, d, rng), circles).mean()) for _ in range(_RANDOM_CODERS)]
    return {
        "chance": chance,
        "overlap": mean([coder["mean_share"] - chance for coder in found.values()]),
        "recall": mean([coder["recall"] for coder in found.values()]),
        "recall_of_random": float(np.mean(random)),
    }


def _status(options: CircuitOptions, result: Mapping[str, Any]) -> tuple[Status, list[str]]:
    controls = [f"the {name} control failed" for name, found in result["controls"].items() if not found["passed"]]
    if controls:
        return "control failed", controls
    incomplete = [f"{name} was not looked at: {why}" for name, why in result["unread"].items()]
    if result["n_evaluated"] < MIN_SEEDS:
        incomplete.append(f"{result['n_evaluated']} different coders, wanted at least {MIN_SEEDS}")
    if incomplete:
        return "incomplete", incomplete
    circuit, low = result["embedding"], lower(result["overlap"])
    failed = {
        f"the frequencies explain {circuit['above_null']:.3f} more than in random order, wanted {options.least_share}": (
            circuit["above_null"] >= options.least_share
        ),
        f"p {circuit['p_value']:.3g}, wanted at most 0.05": circuit["p_value"] <= 0.05,
        f"overlap above chance is at least {low:.3f}, wanted {options.least_overlap}": low >= options.least_overlap,
        f"recall of planes is {result['recall'].value:.3f}, wanted {options.least_recall}": (
            result["recall"].value >= options.least_recall
        ),
    }
    why = [text for text, holds in failed.items() if not holds]
    return ("not recovered", why) if why else ("recovered", [])


def _joined(planes: Sequence[Matrix]) -> Matrix:
    """Orthonormal columns of what all planes span."""
    return np.linalg.qr(np.concatenate(planes, axis=1))[0]
