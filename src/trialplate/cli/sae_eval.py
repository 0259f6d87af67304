"""`trialplate sae eval`: what one coder is worth beside a coder that learned nothing, on rows of which it is said whether it was trained on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trialplate.cli import sae_inputs as sae
from trialplate.cli import study_inputs as inputs
from trialplate.cli.headlines import Headline
from trialplate.cli.option_groups import grouped
from trialplate.cli.sae_runs import cell, study, with_rows

if TYPE_CHECKING:
    from trialplate.metrics.contrastive import Mode
    from trialplate.sae.programs.quality import ModelAt, Texts
    from trialplate.sae.source import Source

SHOWN = ("ev", "l0", "mse", "cosine", "l2_ratio")


@grouped
def evaluate(
    ctx: typer.Context,
    checkpoint: sae.Checkpoint,
    rows: sae.RowOptions,
    run: sae.RunOptions,
    all_rows: Annotated[
        bool,
        typer.Option(
            "--all-rows", help="Judge on all rows instead of the held-out share: for rows no coder was trained on."
        ),
    ] = False,
    random_control: Annotated[
        bool,
        typer.Option(
            "--random-control/--no-random-control", help="Measure a random coder of the same shape and L0 beside."
        ),
    ] = True,
    preservation_texts: Annotated[
        int, typer.Option(min=0, help="Texts that the model is run on with the coder in place; 0: none.")
    ] = 64,
    probe: Annotated[
        list[str] | None,
        typer.Option(
            "--probe", help="Labelled texts to probe on: domain continent place register kind_by_number, or KIND:FILE."
        ),
    ] = None,
    ks: Annotated[
        list[str] | None, typer.Option("--ks", help="Latents that a probe may read; several may follow.")
    ] = None,
    cebench: Annotated[
        str | None, typer.Option(help="paper or released: also CE-Bench, on generated pairs or on --pairs.")
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="Pairs for CE-Bench: JSON Lines with subject, story1, story2.")
    ] = None,
) -> None:
    """Explained variance, L0, density, what the model keeps, and what latents tell of texts, each beside a random coder; also as SAEBench's JSON."""
    with sae.told(), inputs.one_thread(run.device):
        from trialplate.sae.programs.quality import EvalOptions, eval_summary, run_eval

        path = sae.the_one(checkpoint)
        (coder,) = sae.read_coders([path], run.device)
        opened = sae.open_rows(rows, run, coder)
        judged: Source = opened.rows if all_rows else opened.split(rows, run.seed)[1]
        seen = _seen(path, judged)
        texts = _texts(probe, cebench, pairs, run.seed)
        at = _model_at(opened, judged, preservation_texts)
        options = EvalOptions(random_control, sae.whole_numbers("--ks", ks, (1, 2, 5)), _mode(cebench), run.seed)
        config = {
            "options": options,
            "rows": opened.about(),
            "held_out": 1.0 if all_rows else rows.held_out,
            "probe": [one.name for one in texts.labelled],
            "pairs": [one.id for one in texts.pairs],
        }

        def work(folder: Any) -> dict[str, Any]:
            found = run_eval(options, coder, judged, at, texts, folder=folder.path / "saebench")
            return with_rows(opened, {**found, "rows_seen_in_training": seen})

        study(ctx, run, "eval", config, work, eval_summary, _headline)


def _seen(checkpoint: Path, rows: Source) -> str:
    """ "no" where the coder's own record says that these rows were held out, "unknown" where nothing is said. InputError where it was trained on them."""
    path = (checkpoint if checkpoint.is_dir() else checkpoint.parent) / "training.json"
    if not path.is_file():
        return "unknown"
    said = json.loads(path.read_text(encoding="utf-8"))
    trained, held_out = (said.get("rows", {}).get(name) for name in ("rows", "held_out"))
    about = said.get("about_rows", {})
    if rows.digest == held_out:
        return "no"
    if trained is not None and rows.digest == trained:
        raise inputs.InputError(
            f"{checkpoint} was trained on these very rows, and what it makes of them says nothing of others"
        )
    same_rows = about.get("rows_of") in (rows.digest, rows.about.get("rows_of", ""))
    same_texts = "plan" in about and about["plan"] == rows.about.get("plan")
    if same_rows or same_texts:
        raise inputs.InputError(
            f"{checkpoint} was trained on a part of these rows or texts; give --held-out and --seed as in training and leave out --all-rows, or give other rows"
        )
    return "unknown"


def _mode(cebench: str | None) -> Mode:
    """The value of --cebench. InputError for any other."""
    if cebench not in (None, "paper", "released"):
        raise inputs.InputError(f"--cebench: wanted paper or released, got {cebench!r}")
    return "released" if cebench == "released" else "paper"


def _texts(probe: list[str] | None, cebench: str | None, pairs: Path | None, seed: int) -> Texts:
    from trialplate.sae.programs.quality import Texts
    from trialplate.tasks.contrastive_pairs import contrastive_pairs, read_pairs
    from trialplate.tasks.labelled_formats import READERS, read_labelled
    from trialplate.tasks.labelled_texts import labelled_texts

    if pairs is not None and cebench is None:
        raise inputs.InputError("--pairs are for --cebench paper or --cebench released")
    found = []
    sae.entries("--probe", probe)
    names = [part for one in probe or () for part in ([one] if ":" in one else inputs.split_list([one]))]
    for name in names:
        kind, colon, place = name.partition(":")
        if colon and kind not in READERS:
            raise inputs.InputError(f"--probe {name}: no reader {kind!r}; there are {', '.join(READERS)}")
        try:
            found.append(
                read_labelled(place, kind, f"{kind}:{Path(place).name}") if colon else labelled_texts(name, seed)
            )
        except KeyError as error:
            raise inputs.InputError(f"--probe: {error.args[0]}; or KIND:FILE") from error
    stories = () if cebench is None else read_pairs(pairs) if pairs is not None else contrastive_pairs(seed=seed)
    return Texts(tuple(found), tuple(stories))


def _model_at(opened: sae.Opened, rows: Source, most: int) -> ModelAt | None:
    """The model with documents that none of the judged rows' training could have seen: those of the judged rows themselves."""
    from trialplate.activations.sites import resolve
    from trialplate.sae.programs.quality import ModelAt

    if opened.model is None:
        return None
    numbers = [] if rows.documents is None else sorted(set(rows.documents.tolist()))
    step = max(1, len(numbers) // most) if most else 1
    kept = [opened.documents[number] for number in numbers[::step][:most]]
    return ModelAt(opened.model, resolve(opened.model, opened.site_in), kept, inputs.separators(opened.model))


def _headline(result: Mapping[str, Any]) -> Headline:
    from trialplate.sae.programs.quality import about_rows

    core, random = result["core"], result["random"]
    rows = [
        [name, cell(core["estimates"][name]), "" if random is None else cell(random["estimates"].get(name))]
        for name in SHOWN
    ]
    rows.append(["never on", cell(core["dead_frac"]), "" if random is None else cell(random["dead_frac"])])
    kept, other = result["preservation"] or {}, result["random_preservation"] or {}
    rows += [[name, cell(kept[name]), cell(other.get(name))] for name in ("ce_loss_score", "kl_score") if name in kept]
    for name, found in result["probing"].items():
        arms = found["arms"]
        rows.append([f"probe of {name}", cell(arms["coder"]["accuracy"]), cell(arms["random"]["accuracy"])])
    for name, found in ((result["cebench"] or {}).get("measures") or {}).items():
        rows.append([f"CE-Bench {name}", cell(found["score"]), cell(found["baseline"])])
    title = (
        f"{result['coder']['architecture']} coder on {core['n_tokens']:,} rows {about_rows(result)} "
        f"(seen in training: {result['rows_seen_in_training']})"
    )
    return Headline(title, ("", "coder", "random coder"), rows)
