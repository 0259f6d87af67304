"""`trialplate sae transcoder-stress`, `ood-stress`: does what holds of a coder hold of its neighbours, and on texts that it was not made for?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trialplate.cli import sae_inputs as sae
from trialplate.cli import study_inputs as inputs
from trialplate.cli.option_groups import grouped
from trialplate.cli.sae_coders import CoderOptions, description, training
from trialplate.cli.sae_headlines import shifted, transcoded
from trialplate.cli.sae_runs import progress, study, with_rows

if TYPE_CHECKING:
    from trialplate.activations.sites import Point
    from trialplate.models.causal_lm import CausalLM
    from trialplate.sae.coder import Coder
    from trialplate.sae.config import CoderConfig
    from trialplate.tasks.shifted_texts import ShiftedTexts


@grouped
def transcoder_stress(
    ctx: typer.Context,
    rows: sae.RowOptions,
    coder: CoderOptions,
    run: sae.RunOptions,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help="The candidate: architecture, width and sparsity are its own unless said otherwise."),
    ] = None,
    seeds: sae.Seeds = None,
    k_values: Annotated[
        list[str] | None, typer.Option("--k-values", help="A grid over k; the worst condition is the result.")
    ] = None,
    d_sae_values: Annotated[
        list[str] | None, typer.Option("--d-sae-values", help="A grid over width; the worst condition is the result.")
    ] = None,
    compared: Annotated[str, typer.Option(help="What the autoencoders reconstruct: target or input.")] = "target",
    ev_floor: Annotated[float, typer.Option(help="Least explained variance of every coder on its own target.")] = 0.5,
    keep_coders: Annotated[
        bool, typer.Option("--keep-coders", help="Keep every trained coder in the folder of the study.")
    ] = False,
) -> None:
    """Transcoders against autoencoders of the same shape, over seeds: one condition laid down beforehand, or the worst of a grid.

    --hook-name and --hook-name-out are what transcoders read and write: L2.mlp_in and L2.mlp_out, say; by default the MLP of the candidate's layer."""
    with sae.told(), inputs.one_thread(run.device):
        from trialplate.sae.formats import coder_digest
        from trialplate.sae.programs.conditions import Similarity
        from trialplate.sae.programs.transcoder_stress import (
            TranscoderOptions,
            run_transcoder_stress,
            transcoder_summary,
        )

        if compared not in ("target", "input"):
            raise inputs.InputError(f"--compared: wanted target or input, got {compared!r}")
        candidate = sae.read_coders([sae.the_one(checkpoint)], run.device)[0] if checkpoint else None
        opened = sae.open_rows(at_mlp(rows, candidate), run, candidate)
        ks = sae.whole_numbers("--k-values", k_values, ())
        widths = sae.whole_numbers("--d-sae-values", d_sae_values, ())
        described = [
            _described(coder, opened, candidate, {"k": k, "d_sae": m})
            for k, m in product(ks or (None,), widths or (None,))
        ]
        options = TranscoderOptions(
            tuple((one, training(coder, opened, one)) for one in described),
            sae.whole_numbers("--seeds", seeds, (0, 1, 2)),
            compared,  # type: ignore[arg-type]
            ev_floor,
            "" if candidate is None else coder_digest(candidate),
            Similarity(seed=run.seed),
        )
        config = {"options": options, "rows": opened.about(), "held_out": rows.held_out}

        def work(folder: Any) -> dict[str, Any]:
            place = folder.path / "coders" if keep_coders else None
            split = opened.split(rows, run.seed)
            return with_rows(
                opened, run_transcoder_stress(options, *split, folder=place, device=run.device, after=progress)
            )

        study(ctx, run, "transcoder", config, work, transcoder_summary, transcoded)


@grouped
def ood_stress(
    ctx: typer.Context,
    checkpoint: sae.Checkpoint,
    model: sae.ModelOptions,
    run: sae.RunOptions,
    shift: Annotated[
        str, typer.Option(help="attractor, phrasing, or a file of JSON Lines with text, label, domain and group.")
    ] = "attractor",
    n_texts: Annotated[
        int | None, typer.Option(min=4, help="Texts that probes are trained on; 400 for attractor, 96 for phrasing.")
    ] = None,
    ks: Annotated[
        list[str] | None, typer.Option("--ks", help="Latents that a probe may read; several may follow.")
    ] = None,
    floor_source: Annotated[
        float, typer.Option(help="Least accuracy on the source, of the lower end of its interval.")
    ] = 0.6,
    floor_target: Annotated[
        float, typer.Option(help="Least accuracy on the target, of the lower end of its interval.")
    ] = 0.55,
) -> None:
    """Probes of a coder trained on texts of one domain and tested on another: the drop, beside that of the raw activations on the same texts."""
    with sae.told(), inputs.one_thread(run.device):
        from trialplate.activations.sites import resolve
        from trialplate.sae.programs.ood_stress import OodOptions, ood_summary, run_ood_stress, shift_features

        (coder,) = sae.read_coders([sae.the_one(checkpoint)], run.device)
        name, site = sae.model_and_site(coder, model)
        lm = inputs.load_model(name, run.device, model.dtype, model.online)
        point = resolve(lm, site)
        texts = _texts(shift, n_texts, run.seed)
        options = OodOptions(sae.whole_numbers("--ks", ks, (1, 2, 5)), floor_source, floor_target)
        config = {"options": options, "shift": texts.name, "texts": texts.digest, "model": name, "site": point.name}

        def work(_: Any) -> dict[str, Any]:
            random = _random(lm, point, coder, texts, run.seed)
            found = run_ood_stress(options, texts, shift_features(lm, point, coder, texts, random))
            return {"subject": _subject(lm, point, coder, random, texts), **found}

        study(ctx, run, "ood", config, work, ood_summary, shifted)


def at_mlp(rows: sae.RowOptions, candidate: Coder | None) -> sae.RowOptions:
    """The rows' options, with the input and output of the MLP of the candidate's layer where no site is named and it is no transcoder itself."""
    if candidate is None or rows.hook_name is not None or candidate.config.is_transcoder:
        return rows
    layer = re.match(r"L(\d+)\.", candidate.config.site_in)
    if layer is None:
        return rows
    return replace(rows, hook_name=f"L{layer[1]}.mlp_in", hook_name_out=rows.hook_name_out or f"L{layer[1]}.mlp_out")


def _described(
    coder: CoderOptions, opened: sae.Opened, candidate: Coder | None, changes: dict[str, Any]
) -> CoderConfig:
    """The transcoder of one condition; what the grid does not vary is as the options, or the candidate, have it."""
    kept = {name: value for name, value in changes.items() if value is not None}
    return description(coder, opened, candidate, **kept)


def _texts(shift: str, n: int | None, seed: int) -> ShiftedTexts:
    from trialplate.tasks.shifted_texts import LARGEST, read_shift, shifted_texts

    if shift in LARGEST:
        return shifted_texts(shift, n or LARGEST[shift], seed)
    if not Path(shift).is_file():
        raise inputs.InputError(f"--shift {shift}: wanted {', '.join(LARGEST)}, or a file that is here")
    return read_shift(Path(shift), seed)


def _random(lm: CausalLM, point: Point, coder: Coder, texts: ShiftedTexts, seed: int) -> Coder:
    """The coder's random twin, with its L0 on the training texts of the source."""
    import torch

    from trialplate.sae.pooled import special_ids, text_ids
    from trialplate.sae.random_twin import random_twin
    from trialplate.sae.source import from_model

    ids: Sequence[Sequence[int]] = text_ids(lm, [(text.text,) for text in texts.train])
    source = from_model(lm, ids, point.name, coder.config.site_out or None, skip=special_ids(lm))
    return random_twin(coder, source, torch.Generator().manual_seed(seed))


def _subject(lm: CausalLM, point: Point, coder: Coder, random: Coder, texts: ShiftedTexts) -> dict[str, Any]:
    from trialplate.sae.formats import coder_digest

    return {
        "coder": coder_digest(coder),
        "random": coder_digest(random),
        "texts": texts.digest,
        "model": lm.spec.name,
        "weights": lm.weights_digest,
        "site_in": point.name,
    }
