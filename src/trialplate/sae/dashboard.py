"""One static page of a coder, to be opened from disk: what it is worth beside a coder that learned nothing, how often its latents fire, and for a few
latents where they fire, which tokens they raise, and which other latents lie next to them.

Symbols: n tokens of the documents, m latents. The model is run twice over the documents, once to measure every latent and once to collect texts of those
that are shown. What is held meanwhile is three numbers a latent, a sample of rows, and a fixed number of firings of each latent that is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trialplate.activations.batches import Plan
from trialplate.activations.capture import Collector, collect, plan_for
from trialplate.activations.sites import Point, resolve
from trialplate.metrics.estimate import Estimate
from trialplate.metrics.firing_density import FiringDensity
from trialplate.metrics.row_cosines import nearest_cosine
from trialplate.models.causal_lm import CausalLM
from trialplate.report.files import write_atomic
from trialplate.sae.captured_rows import KeptRows
from trialplate.sae.coder import Coder
from trialplate.sae.dashboard_page import Context, Page, Profile, Scores, render
from trialplate.sae.errors import CoderError
from trialplate.sae.evaluate import CoreScores, core_scores
from trialplate.sae.formats.identity import coder_digest
from trialplate.sae.latent_contexts import Contexts, Firing
from trialplate.sae.latent_directions import neighbours, promoted, promoted_by_chance
from trialplate.sae.latent_tally import BY_MASS, Tally, choose
from trialplate.sae.pooled import special_ids
from trialplate.sae.random_twin import random_twin
from trialplate.sae.source import Source, from_tensor

MOST_DEAD = 200
"""Dead latents that are named; their number is always told."""
_TASK = "text"


@dataclass(frozen=True)
class DashboardOptions:
    """latents: how many are shown, half by firing mass, half drawn from the others. contexts: strongest firings of each. width: tokens either side of a
    firing. tokens: that are named as raised. neighbours: of each latent. max_rows: rows that scores are taken from, a uniform sample of the tokens.
    max_length: tokens of a document that are read (None: the model's window). seed: of the sample, of the latents drawn, and of the random coder."""

    latents: int = 64
    contexts: int = 6
    width: int = 12
    tokens: int = 8
    neighbours: int = 3
    max_rows: int = 20_000
    max_length: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"latents": 1, "contexts": 1, "width": 0, "tokens": 1, "neighbours": 1, "max_rows": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"a dashboard wants {name} of at least {low}, got {getattr(self, name)}")


def dashboard(
    coder: Coder,
    model: CausalLM,
    point: Point,
    documents: Sequence[Sequence[int]],
    *,
    skip: Iterable[int] | None = None,
    options: DashboardOptions = DashboardOptions(),
) -> str:
    """The page as HTML, the same text for the same arguments.

    point: what the coder reads in the model; a transcoder's target is found by its own site_out. documents: token ids, best none that the coder was
    trained on. skip: ids that are read and not counted (None: beginnings, ends and paddings).

    CoderError for a transcoder that does not say where it writes, and for a model of another width; ValueError for a coder of which no latent fires on
    these documents; CaptureError for no documents, or none with a token that counts."""
    ids = special_ids(model) if skip is None else tuple(skip)
    plan = plan_for(model, {_TASK: documents}, max_length=options.max_length, skip=ids)
    tally = Tally(coder)
    rows = _measured(coder, model, point, plan, tally, options)
    twin = random_twin(coder, rows, torch.Generator().manual_seed(options.seed))
    scores = core_scores(coder, rows), core_scores(twin, rows)
    chosen = choose(tally, options.latents, np.random.default_rng(options.seed))
    contexts = Contexts(coder, list(chosen), top=options.contexts, width=options.width, seed=options.seed)
    _pass(model, plan, {point: [contexts]})
    read = _Reader(model, plan, options.width)
    dead = np.flatnonzero(tally.fired == 0)
    twin_directions = nearest_cosine(twin.W_dec) if len(twin.W_dec) > 1 else torch.zeros(1)
    page = Page(
        title=f"{coder.config.architecture} coder of {model.label} {point.name}",
        facts=_facts(coder, model, point, tally, documents, rows),
        scores=_scores(*scores),
        densities=(FiringDensity(tally.fired, tally.n_tokens).histogram(), scores[1].firing.histogram()),
        notes=_notes(chosen, tally, scores[0].n_tokens, options),
        profiles=_profiles(coder, model, chosen, tally, contexts, read, options),
        dead=dead[:MOST_DEAD].tolist(),
        n_dead=len(dead),
        chance_z=promoted_by_chance(coder, model, torch.Generator().manual_seed(options.seed)),
        chance_cosine=float(twin_directions.nanmean()),
    )
    return render(page)


def write_dashboard(path: Path, page: str, *, force: bool = False) -> None:
    """Write the page in one step. FileExistsError where the file is there and `force` is not given; OSError."""
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists and is not overwritten; choose another file, or write over it (--force)")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, page.encode())


class _Reader:
    """The text around a firing, token by token."""

    def __init__(self, model: CausalLM, plan: Plan, width: int) -> None:
        self.ids = {row.document: row.ids for batch in plan for row in batch.rows}
        self.decode, self.width = model.tokenizer.decode, width

    def context(self, firing: Firing, said: str = "") -> Context:
        ids = self.ids[firing.document]
        low, high = max(0, firing.position - self.width), min(len(ids), firing.position + self.width + 1)
        window = firing.window[low - firing.position + self.width : high - firing.position + self.width]
        values = [None if np.isnan(value) else float(value) for value in window]
        tokens = [self.decode([token]) for token in ids[low:high]]
        return Context(firing.value, tokens, values, firing.position - low, firing.document, firing.position, said)


def _measured(
    coder: Coder, model: CausalLM, point: Point, plan: Plan, tally: Tally, options: DashboardOptions
) -> Source:
    """Fill the tally with all tokens, and return a uniform sample of the rows with what should be written for each."""
    target = _target(coder, model, point)
    kept = {one.name: KeptRows(plan, options.max_rows, options.seed) for one in {point, target}}
    sinks: dict[Point, list[Collector]] = {point: [kept[point.name], tally]}
    if target != point:
        sinks[target] = [kept[target.name]]
    _pass(model, plan, sinks)
    x, y = kept[point.name].values, kept[target.name].values
    named = f"{model.label} {point.name}"
    return from_tensor(x, y if coder.config.is_transcoder else None, name=named, documents=kept[point.name].documents)


def _target(coder: Coder, model: CausalLM, point: Point) -> Point:
    if not coder.config.is_transcoder:
        return point
    if not coder.config.site_out:
        raise CoderError("this transcoder does not say which site it writes; set site_out in its description")
    return resolve(model, coder.config.site_out)


def _pass(model: CausalLM, plan: Plan, sinks: Mapping[Point, Sequence[Collector]]) -> None:
    collect(model, plan, list(sinks), {(_TASK, point.name): list(found) for point, found in sinks.items()})


def _facts(
    coder: Coder, model: CausalLM, point: Point, tally: Tally, documents: Sequence[Any], rows: Source
) -> list[tuple[str, str]]:
    c = coder.config
    kind = "transcoder" if c.is_transcoder else "autoencoder"
    how = [c.architecture, *([f"k = {c.k}"] if c.k is not None else []), *(["signed"] if c.signed else [])]
    width = f"{c.d_sae:,} latents of {c.d_in} channels" + (f", writes {c.d_out}" if c.d_out != c.d_in else "")
    site = point.name + (f" → {c.site_out}" if c.is_transcoder else "")
    return [
        ("model", f"{model.label} (weights {model.weights_digest[:12]})"),
        ("site", site),
        ("kind", f"{kind}: {', '.join(how)}"),
        ("size", width),
        ("coder digest", coder_digest(coder)),
        ("measured on", f"{tally.n_tokens:,} tokens of {len(documents):,} documents"),
        ("seen in training", _seen(coder, rows)),
    ]


def _seen(coder: Coder, rows: Source) -> str:
    """Whether the coder was trained on what the page is of, as far as its own record tells: that names its rows by digest, so other rows, or a part of
    the same, are not told from texts it never saw."""
    said = coder.config.about.get("training")
    if isinstance(said, Mapping) and said.get("rows") == rows.digest:
        return "yes: these are the rows that it was trained on"
    return "unknown: these texts may have been trained on"


def _scores(ours: CoreScores, other: CoreScores) -> list[Scores]:
    def row(name: str, key: str, digits: int, meaning: str) -> Scores:
        return Scores(name, _shown(getattr(ours, key), digits), _shown(getattr(other, key), digits), meaning)

    dead = [f"{100 * one.dead_frac:.1f} %" for one in (ours, other)]
    return [
        row("EV", "ev", 3, "share of variance explained: 1 all, 0 no better than the mean"),
        row("L0", "l0", 2, "active latents a token"),
        row("MSE", "mse", 3, "squared distance of a token and its reconstruction"),
        row("cosine", "cosine", 3, "of a token and its reconstruction: 1 the same direction"),
        Scores("dead", dead[0], dead[1], f"share of latents that never fired on {ours.n_tokens:,} rows"),
    ]


def _notes(chosen: Mapping[int, str], tally: Tally, n_rows: int, options: DashboardOptions) -> list[str]:
    n_mass = sum(why == BY_MASS for why in chosen.values())
    alive = int((tally.fired > 0).sum())
    sample = (
        f"All numbers are of the same {tally.n_tokens:,} tokens."
        if n_rows == tally.n_tokens
        else f"Densities and activations of this coder are of all {tally.n_tokens:,} tokens; scores, and densities of the random coder, of a uniform "
        f"sample of {n_rows:,} of them."
    )
    return [
        f"Shown are {len(chosen)} of {alive:,} latents that fire: the {n_mass} with the largest firing mass (sum of their activations), and "
        f"{len(chosen) - n_mass} drawn evenly from all others (seed {options.seed}). The first are what the coder uses most, not what is typical of it.",
        sample,
    ]


def _profiles(
    coder: Coder,
    model: CausalLM,
    chosen: Mapping[int, str],
    tally: Tally,
    contexts: Contexts,
    read: _Reader,
    options: DashboardOptions,
) -> list[Profile]:
    latents = list(chosen)
    raised = promoted(coder, latents, model, options.tokens)
    near = neighbours(coder, latents, options.neighbours)
    total = float(tally.mass.sum())
    decode = model.tokenizer.decode
    found = []
    for number, j in enumerate(latents):
        tokens = None if raised is None else raised[number]
        found.append(
            Profile(
                latent=j,
                why=chosen[j],
                density=float(tally.fired[j]) / tally.n_tokens,
                mass_share=float(tally.mass[j]) / total,
                most=float(tally.most[j]),
                mean=float(tally.mass[j]) / float(tally.fired[j]),
                strongest=[read.context(one) for one in contexts.strongest(number)],
                even=[read.context(one, f"({100 * q:.0f} %)") for q, one in contexts.quantiles(number)],
                raised=None if tokens is None else [(decode([i]), z) for i, z in tokens.raised],
                lowered=None if tokens is None else [(decode([i]), z) for i, z in tokens.lowered[:4]],
                neighbours=near[number],
            )
        )
    return found


def _shown(found: Estimate, digits: int) -> str:
    number = f"{found.value:.{digits}f}" if abs(found.value) < 100 else f"{found.value:.4g}"
    if found.ci is None:
        return number
    low, high = (f"{end:.{digits}f}" if abs(found.value) < 100 else f"{end:.4g}" for end in found.ci)
    return f"{number} [{low}, {high}]"
