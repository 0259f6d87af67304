"""`trialplate sae dashboard`: one static page of a coder, to be opened from disk, and on request the activations behind it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trialplate.cli import sae_inputs as sae
from trialplate.cli import study_inputs as inputs
from trialplate.cli.option_groups import grouped

if TYPE_CHECKING:
    from trialplate.activations.sites import Point
    from trialplate.models.causal_lm import CausalLM
    from trialplate.sae.coder import Coder


@grouped
def dashboard(
    checkpoint: sae.Checkpoint,
    where: sae.ModelOptions,
    output: Annotated[
        Path | None, typer.Option(help="The file to write; by default dashboard.html in the folder of the coder.")
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", "--outdir", help="Folder to write dashboard-CODER.html in, in place of --output."),
    ] = None,
    probe_manifest: inputs.Manifest = None,
    task_id: inputs.TaskIds = None,
    prompt: inputs.Prompt = None,
    dataset: inputs.Dataset = None,
    split: inputs.Split = "validation",
    num_docs: inputs.NumDocs = 200,
    max_tokens: inputs.MaxTokens = 128,
    latents: Annotated[
        int, typer.Option(min=1, help="Latents shown: half by firing mass, half drawn from the others.")
    ] = 64,
    contexts: Annotated[int, typer.Option(min=1, help="Strongest firings of each latent.")] = 6,
    export: Annotated[
        Path | None, typer.Option(help="Also write all activations here, in the layout that delphi caches them in.")
    ] = None,
    device: inputs.Device = "cpu",
    seed: inputs.Seed = 0,
    force: Annotated[bool, typer.Option("--force", help="Write over a page that is there.")] = False,
) -> None:
    """A page that shows what a coder is worth beside a random one, how often its latents fire, and for some of them where. It needs no network."""
    with sae.told(), inputs.one_thread(device):
        from trialplate.sae.dashboard import DashboardOptions, write_dashboard
        from trialplate.sae.dashboard import dashboard as page_of
        from trialplate.sae.latent_export import export_latents

        place = sae.the_one(checkpoint)
        path = _path(place, output, output_dir)
        if path.exists() and not force:
            raise inputs.InputError(f"{path} exists and is not overwritten; name another (--output), or give --force")
        (coder,) = sae.read_coders([place], device)
        path.parent.mkdir(parents=True, exist_ok=True)
        lm, point = _at(coder, where, device)
        given = inputs.TextOptions(
            probe_manifest, inputs.split_list(task_id), prompt, dataset, split, num_docs, where.online
        )
        texts = inputs.read_texts(lm, given, max_tokens)
        documents = [ids for task in texts.documents.values() for ids in task]
        skip = inputs.separators(lm)
        options = DashboardOptions(latents=latents, contexts=contexts, max_length=max_tokens, seed=seed)
        write_dashboard(path, page_of(coder, lm, point, documents, skip=skip, options=options), force=force)
        typer.echo(f"written: {path}")
        if export is not None:
            files = export_latents(coder, lm, point, documents, export, skip=skip, max_length=max_tokens)
            typer.echo(f"written: {files[0].parent}")


def _path(place: Path, output: Path | None, folder: Path | None) -> Path:
    """Where the page goes. InputError for a file and a folder at once."""
    if output is not None and folder is not None:
        raise inputs.InputError("--output and --output-dir both say where the page goes; give one of them")
    home = place if place.is_dir() else place.parent
    if folder is not None:
        return folder / f"dashboard-{home.resolve().name}.html"
    return output or home / "dashboard.html"


def _at(coder: Coder, where: sae.ModelOptions, device: str) -> tuple[CausalLM, Point]:
    """The model and the site that the options name, else those that the coder names. InputError where neither does."""
    from trialplate.activations.sites import resolve

    name, site = sae.model_and_site(coder, where)
    lm = inputs.load_model(name, device, where.dtype, where.online)
    return lm, resolve(lm, site)
