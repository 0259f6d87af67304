"""What one coder is worth: its core numbers on given rows, what is left of the model with it in place, what its latents tell of texts. A coder that
learned nothing, of the same shape and L0, is measured beside it in all of them.

Where there is a model, the core numbers and probes are also written in SAEBench's form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trialplate.activations.sites import Point
from trialplate.metrics.contrastive import Mode
from trialplate.metrics.reconstruction import DEFINITIONS
from trialplate.models.causal_lm import CausalLM
from trialplate.sae.coder import Coder
from trialplate.sae.contrastive import CeBench, cebench
from trialplate.sae.evaluate import EV_DEFINITION, CoreScores, core_scores
from trialplate.sae.formats import coder_digest, describe_coder
from trialplate.sae.latent_table import latent_table
from trialplate.sae.preservation import Preserved, preservation
from trialplate.sae.probing import Probing, probe_coder
from trialplate.sae.programs.conditions import shown
from trialplate.sae.programs.results import plain
from trialplate.sae.random_twin import random_twin
from trialplate.sae.saebench_core import DEFINITIONS as SAEBENCH_DEFINITIONS
from trialplate.sae.saebench_core import core_details, core_metrics
from trialplate.sae.saebench_json import saebench_result, write
from trialplate.sae.source import Source
from trialplate.tasks.contrastive_pairs import ContrastivePair
from trialplate.tasks.labelled_texts import LabelledSet


@dataclass(frozen=True)
class ModelAt:
    """The model that a coder reads, and where. documents: token ids that it is run on with the coder in place, none of them trained on; skip: ids that
    are left alone."""

    model: CausalLM
    point: Point
    documents: Sequence[Sequence[int]]
    skip: tuple[int, ...] = ()


@dataclass(frozen=True)
class EvalOptions:
    """random_control: measure the random twin too. ks: of probes. cebench_mode: paper or released. seed: of the twin, and of what is drawn."""

    random_control: bool = True
    ks: tuple[int, ...] = (1, 2, 5)
    cebench_mode: Mode = "paper"
    seed: int = 0


@dataclass(frozen=True)
class Texts:
    """Labelled sets to probe on, and pairs of stories to contrast; both are read with the model."""

    labelled: tuple[LabelledSet, ...] = ()
    pairs: tuple[ContrastivePair, ...] = ()


LEGEND = (
    "ev: share of variance about the mean that is explained; l0, l1: mean number and sum of active latents; l2_ratio: norm of the reconstruction over "
    "that of the row; bias: below 1 where reconstructions are too short; alive_frac: share of latents that fire on these rows; frac_above_1pct, "
    "frac_above_10pct: share that fire on more than 1 and 10 % of them; ce_loss_score, kl_score: 1 where the model loses nothing with the coder in "
    "place, 0 where it loses as much as with zeros there."
)
"""What the names of rows in a summary mean."""


@dataclass(frozen=True, eq=False)
class _Measured:
    coder: Coder
    core: CoreScores
    preserved: Preserved | None = None


def run_eval(
    options: EvalOptions,
    coder: Coder,
    rows: Source,
    at: ModelAt | None = None,
    texts: Texts | None = None,
    *,
    folder: Path | None = None,
) -> dict[str, Any]:
    """The result of `eval.json`: `coder`, `core` and `random` (estimates, shares, explained variance by every definition, density histogram),
    `preservation`, `probing`, `cebench`; null where there is no model or nothing was asked.

    folder: where files in SAEBench's form go. ValueError for texts without a model, and where probes are asked for without the random control: a
    probe is never read without it; CoderError and ValueError as the measures."""
    wanted = texts or Texts()
    if (wanted.labelled or wanted.pairs) and (at is None or not options.random_control):
        raise ValueError("probes and contrasts read texts with a model, and beside a random coder; both are needed")
    twin = None
    if options.random_control:
        twin = random_twin(coder, rows, torch.Generator().manual_seed(options.seed))
    ours, other = _measured(coder, rows, at), None if twin is None else _measured(twin, rows, at)
    probed, contrasted = ({}, None) if at is None or twin is None else _read(options, coder, twin, at, wanted)
    if folder is not None:
        _write_saebench(folder, ours, probed, rows, options)
    result: dict[str, Any] = plain(
        {
            "subject": {
                "coder": coder_digest(coder),
                "random": None if twin is None else coder_digest(twin),
                "rows": rows.digest,
            },
            "coder": describe_coder(coder),
            "core": _core(ours.core),
            "random": None if other is None else _core(other.core),
            "preservation": _preserved(ours.preserved),
            "random_preservation": None if other is None else _preserved(other.preserved),
            "probing": {name: found.result() for name, found in probed.items()},
            "cebench": None if contrasted is None else contrasted.result(),
        }
    )
    return result


def about_rows(result: Mapping[str, Any]) -> str:
    """What may be said of the rows that a coder was judged on, from `rows_seen_in_training`: "no", or "unknown" where nothing is recorded."""
    return {"no": "that it was not trained on", "yes": "that it was trained on"}.get(
        result.get("rows_seen_in_training", "unknown"), "that it may have been trained on"
    )


def eval_summary(result: Mapping[str, Any]) -> str:
    """The result in Markdown."""
    coder, core, random = result["coder"], result["core"], result["random"]
    lines = [
        f"# A coder on rows {about_rows(result)}",
        "",
        f"{coder['architecture']}, {coder['d_sae']} latents of {coder['d_in']} channels; {core['n_tokens']:,} rows; "
        f"seen in training: {result.get('rows_seen_in_training', 'unknown')}.",
        "",
        "| | coder | random coder |",
        "|---|---|---|",
    ]
    for name in core["estimates"]:
        lines.append(f"| {name} | {shown(core['estimates'][name])} | {_of(random, name)} |")
    for name in ("alive_frac", "frac_above_1pct", "frac_above_10pct"):
        lines.append(f"| {name} | {core[name]:.4f} | {'' if random is None else format(random[name], '.4f')} |")
    for name, found in (result["preservation"] or {}).items():
        if isinstance(found, Mapping) and "value" in found:
            other = (result["random_preservation"] or {}).get(name)
            lines.append(f"| {name} | {shown(found)} | {'' if other is None else shown(other)} |")
    for name, probing in result["probing"].items():
        arms = {arm: shown(probing["arms"][arm]["accuracy"]) for arm in ("coder", "raw", "random")}
        lines.append(f"| probe of {name} (channels {arms['raw']}) | {arms['coder']} | {arms['random']} |")
    for name, one in ((result["cebench"] or {}).get("measures") or {}).items():
        lines.append(f"| CE-Bench {name} | {shown(one['score'])} | {shown(one['baseline'])} |")
    return "\n".join([*lines, "", LEGEND])


def _measured(coder: Coder, rows: Source, at: ModelAt | None) -> _Measured:
    core = core_scores(coder, rows)
    if at is None or not at.documents:
        return _Measured(coder, core)
    return _Measured(coder, core, preservation(at.model, at.point, coder, at.documents, skip=at.skip))


def _read(
    options: EvalOptions, coder: Coder, twin: Coder, at: ModelAt, texts: Texts
) -> tuple[dict[str, Probing], CeBench | None]:
    """Probes of every labelled set, and CE-Bench where there are pairs."""
    rng, skip = np.random.default_rng(options.seed), at.skip or None
    probed = {
        one.name: probe_coder(at.model, at.point, coder, one, rng, random=twin, ks=options.ks, skip=skip)
        for one in texts.labelled
    }
    if not texts.pairs:
        return probed, None
    mode = options.cebench_mode
    return probed, cebench(at.model, at.point, coder, texts.pairs, rng, baseline=twin, mode=mode, skip=skip)


def _core(core: CoreScores) -> dict[str, Any]:
    histogram = core.firing.histogram()
    return {
        "n_tokens": core.n_tokens,
        "ev_definition": EV_DEFINITION,
        "estimates": core.estimates(),
        "explained_variance": {name: core.sums.explained_variance(name) for name in DEFINITIONS},  # type: ignore[arg-type]
        "alive_frac": core.alive_frac,
        "dead_frac": core.dead_frac,
        "frac_above_1pct": core.frac_above_1pct,
        "frac_above_10pct": core.frac_above_10pct,
        "density": {"log10_edges": histogram.edges, "latents": histogram.counts, "dead": histogram.dead},
    }


def _preserved(found: Preserved | None) -> dict[str, Any] | None:
    if found is None:
        return None
    plainly = {
        name: getattr(found, name) for name in ("ce_clean", "ce_sae", "ce_zero", "ce_increase", "kl_sae", "kl_zero")
    }
    scores: dict[str, Any] = {}
    undefined: dict[str, str] = {}
    for name in ("ce_loss_score", "kl_score"):
        try:
            scores[name] = getattr(found, name)
        except (
            ValueError
        ) as error:  # zeros do no harm here, so there is nothing to keep: the score has no value, the losses have
            undefined[name] = str(error)
    return {"n_tokens": found.n_tokens, **plainly, **scores, "undefined": undefined}


def _write_saebench(
    folder: Path, one: _Measured, probed: Mapping[str, Probing], rows: Source, options: EvalOptions
) -> None:
    """core (where its scores have a value and the documents of rows are known) and sparse_probing, each in a folder of its kind."""
    about: dict[str, Any] = {"coder": one.coder.config, "release": "trialplate", "sae_id": coder_digest(one.coder)[:12]}
    kept = _preserved(one.preserved)
    if one.preserved is not None and kept is not None and not kept["undefined"] and rows.documents is not None:
        table = latent_table(one.coder, rows)
        config = {"n_rows": rows.n_rows, "rows": rows.digest, "seed": options.seed}
        metrics = core_metrics(one.core, one.preserved, table)
        unstructured = {"definitions": dict(SAEBENCH_DEFINITIONS)}
        core = saebench_result("core", config, metrics, core_details(table), unstructured=unstructured, **about)
        write(folder / "core", core)
    if probed:
        parts = {name: found.saebench() for name, found in probed.items()}
        details = [{"dataset_name": name, **found["llm"], **found["sae"]} for name, found in parts.items()]
        asked = {"datasets": list(parts), "k_values": list(options.ks), "random_seed": options.seed}
        write(folder / "sparse_probing", saebench_result("sparse_probing", asked, _means(parts), details, **about))


def _means(parts: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Of every score that all sets have, the mean over sets."""
    found: dict[str, dict[str, float]] = {}
    for category in ("llm", "sae"):
        names = set.intersection(*(set(one[category]) for one in parts.values()))
        found[category] = {
            name: float(np.mean([one[category][name] for one in parts.values()])) for name in sorted(names)
        }
    return found


def _of(random: Mapping[str, Any] | None, name: str) -> str:
    return shown(random["estimates"][name]) if random is not None and name in random["estimates"] else ""
