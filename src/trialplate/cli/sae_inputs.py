"""What the commands about coders have in common: where rows come from, which coders are read, where results go, and how errors are said.

Rows come from a folder of `trialplate capture`, a file of tensors, or a model and a site directly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trialplate.cli import study_inputs as inputs
from trialplate.cli.sae_lists import decimal_numbers as decimal_numbers
from trialplate.cli.sae_lists import different as different
from trialplate.cli.sae_lists import entries as entries
from trialplate.cli.sae_lists import whole_numbers as whole_numbers
from trialplate.cli.sae_row_files import read_array as read_array
from trialplate.cli.sae_row_files import rows_of_file

if TYPE_CHECKING:
    from trialplate.models.causal_lm import CausalLM
    from trialplate.sae.coder import Coder
    from trialplate.sae.source import Source, Subset

Checkpoints = Annotated[
    list[Path] | None,
    typer.Option("--checkpoint", help="Folder or file of a coder, in any format that is read; several may follow."),
]
Checkpoint = Annotated[
    list[Path], typer.Option("--checkpoint", help="Folder or file of one coder, in any format that is read.")
]
ModelName = Annotated[
    str | None, typer.Option("--model-name", "--model", help="A model to read activations of, where there are no rows.")
]
HookName = Annotated[
    str | None, typer.Option("--hook-name", "--site", help="The site: L3.resid_post, or blocks.3.hook_resid_post.")
]
Seeds = Annotated[list[str] | None, typer.Option("--seeds", help="Seeds, one coder each; several may follow.")]


@dataclass(frozen=True)
class RunOptions:
    """Where a result goes, and on what it is computed."""

    output_dir: inputs.OutDir = Path("runs/sae")
    device: inputs.Device = "cpu"
    seed: inputs.Seed = 0
    plot: Annotated[bool, typer.Option("--plot/--no-plot", help="Draw what the result has pictures of.")] = True


@dataclass(frozen=True)
class ModelOptions:
    """Which model a coder belongs to, where a command reads texts of its own."""

    model_name: ModelName = None
    hook_name: HookName = None
    dtype: inputs.Dtype = "auto"
    online: inputs.Online = False


@dataclass(frozen=True)
class RowOptions:
    """Which activations are read."""

    rows: Annotated[
        Path | None,
        typer.Option(
            help="Rows on disk: a folder of `trialplate capture`, or a file .npy or .safetensors (x, y, documents)."
        ),
    ] = None
    model_name: ModelName = None
    hook_name: HookName = None
    hook_name_out: Annotated[
        str | None, typer.Option("--hook-name-out", "--site-out", help="The site that a transcoder writes.")
    ] = None
    probe_manifest: inputs.Manifest = None
    task_id: inputs.TaskIds = None
    prompt: inputs.Prompt = None
    dataset: inputs.Dataset = None
    split: inputs.Split = "validation"
    num_docs: inputs.NumDocs = -1
    max_tokens: inputs.MaxTokens = 128
    max_rows: Annotated[
        int, typer.Option(min=1, help="Rows read of a model, at most: a uniform sample of its tokens.")
    ] = 200_000
    held_out: Annotated[
        float, typer.Option(help="Share of the rows that is never trained on, whole documents at a time.")
    ] = 0.2
    dtype: inputs.Dtype = "auto"
    online: inputs.Online = False


@dataclass(frozen=True)
class Opened:
    """Rows with what is known of where they are from. `documents`: the token ids of every document of the rows, where a model was read just now."""

    rows: Source
    site_in: str
    site_out: str
    model_name: str
    model: CausalLM | None = None
    documents: Sequence[Sequence[int]] = ()

    def split(self, options: RowOptions, seed: int) -> tuple[Subset, Subset]:
        """(rows to train on, rows held out)."""
        from trialplate.sae.source import split

        return split(self.rows, options.held_out, seed)

    def about(self) -> dict[str, Any]:
        """What a configuration says of the rows: names, no places."""
        return {"model": self.model_name, "site_in": self.site_in, "site_out": self.site_out}


@contextmanager
def told() -> Iterator[None]:
    """As `study_inputs.told`, for what goes wrong with coders too: one line and exit status 2."""
    from trialplate.sae.errors import CoderError, StudyError, TrainingError

    with inputs.told():
        try:
            yield
        except (CoderError, StudyError, TrainingError) as error:
            raise inputs.InputError(str(error)) from error


def open_rows(options: RowOptions, run: RunOptions, coder: Coder | None = None) -> Opened:
    """The rows that the options name; what they leave open is taken from the coder's own description.

    InputError where they name none, or two kinds; StoreError, SiteError, ModelError and TrainingError where those cannot be read."""
    described = coder.config if coder is not None else None
    site_in = options.hook_name or (described.site_in if described else "")
    site_out = options.hook_name_out or (described.site_out if described else "") or site_in
    if described is not None and options.model_name is not None:
        require_model(described.model, options.model_name)
    if options.rows is None:
        name = options.model_name or (described.model if described else "")
        if not name or not site_in:
            raise inputs.InputError(
                "no rows are named: give --rows FOLDER (of `trialplate capture`) or FILE, or --model-name and --hook-name"
            )
        return _of_model(options, run, name, site_in, site_out)
    if options.rows.is_dir():
        return _of_store(options, site_in, site_out)
    return Opened(
        rows_of_file(options.rows), site_in, site_out, options.model_name or (described.model if described else "")
    )


def open_sites(options: RowOptions, run: RunOptions, layers: Sequence[str], site: str) -> dict[str, Opened]:
    """Rows of several sites of one model, or of one folder of rows, by name; without layers those of `open_rows`. The model is read once a site."""
    if not layers:
        one = open_rows(options, run)
        return {one.site_in or "rows": one}
    if options.hook_name is not None:
        raise inputs.InputError("--hook-name and --hook-layers both say which sites are read; give one of them")
    if options.rows is not None:
        names = [f"L{layer}.{site}" if layer.isdecimal() else layer for layer in layers]
        return {name: open_rows(replace(options, hook_name=name), run) for name in names}
    if options.model_name is None:
        raise inputs.InputError(
            "--hook-layers are layers of a model or of a folder of rows; give --model-name or --rows"
        )
    lm = inputs.load_model(options.model_name, run.device, options.dtype, options.online)
    points = inputs.chosen_points(lm, layers, "50%", site)
    return {point.name: open_rows(replace(options, hook_name=point.name), run) for point in points}


def the_one(paths: Sequence[Path]) -> Path:
    """The coder of a command that takes one. InputError for several: of `--checkpoint *` nobody means the last."""
    if len(paths) != 1:
        raise inputs.InputError(f"--checkpoint: wanted one coder, got {len(paths)}: {', '.join(map(str, paths))}")
    return paths[0]


def read_coders(paths: Sequence[Path] | None, device: str) -> list[Coder]:
    """The coders of --checkpoint, in order. InputError for none, and for a place where nothing is."""
    from trialplate.sae.formats import load_coder

    if not paths:
        raise inputs.InputError("no coder is named: give --checkpoint FOLDER")
    if absent := [path for path in paths if not path.exists()]:
        raise inputs.InputError(
            f"--checkpoint {absent[0]}: there is no such file or folder. Give the folder of a coder, as `sae train` names it at its end, "
            "or train one first"
        )
    return [load_coder(path, device=device) for path in paths]


def names_of(paths: Sequence[Path] | None) -> list[str]:
    """What coders are called: the last parts of their paths, as many as tell them apart."""
    parts = [path.resolve().parts for path in paths or ()]
    for n in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(one[-n:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    if not parts:
        return []
    raise inputs.InputError("--checkpoint: one path is named twice, and one coder cannot count as two")


def names_rows(options: RowOptions) -> bool:
    """Whether the options name any rows."""
    return options.rows is not None or options.model_name is not None


def command_line(ctx: typer.Context) -> list[str]:
    """The command with the options that were given, as a manifest has it; the same whoever started it."""
    words = ctx.command_path.split()
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(str(parameter.name))
        if source is None or source.name != "COMMANDLINE":
            continue
        value = ctx.params[str(parameter.name)]
        if isinstance(value, bool):
            words.append((parameter.opts if value else parameter.secondary_opts)[0])
            continue
        for one in value if isinstance(value, list | tuple) else [value]:
            words += [parameter.opts[0], str(one)]
    return words


def model_and_site(coder: Coder, where: ModelOptions) -> tuple[str, str]:
    """The names that the options give, else those that the coder gives. InputError where neither does, and for another model than the coder's."""
    name, site = where.model_name or coder.config.model, where.hook_name or coder.config.site_in
    if not name or not site:
        raise inputs.InputError(
            "the coder does not say which model and site it reads; give --model-name and --hook-name"
        )
    require_model(coder.config.model, name)
    return name, site


def require_model(meant: str, given: str) -> None:
    """InputError where a coder was made for another model than the one that is named."""
    from trialplate.sae.model_names import same_model

    if meant and not same_model(meant, given):
        raise inputs.InputError(
            f"the coder was made for the model {meant}, and --model-name is {given}; what it makes of another's activations says nothing of it"
        )


def _of_model(options: RowOptions, run: RunOptions, name: str, site_in: str, site_out: str) -> Opened:
    from trialplate.sae.source import from_model

    lm = inputs.load_model(name, run.device, options.dtype, options.online)
    given = inputs.TextOptions(
        options.probe_manifest,
        inputs.split_list(options.task_id),
        options.prompt,
        options.dataset,
        options.split,
        options.num_docs,
        options.online,
    )
    texts = inputs.read_texts(lm, given, options.max_tokens)
    source = from_model(
        lm, texts.documents, site_in, site_out, max_rows=options.max_rows, seed=run.seed, skip=inputs.separators(lm)
    )
    documents = [ids for task in texts.documents.values() for ids in task]
    return Opened(source, source.about["site_in"], source.about["site_out"], name, lm, documents)


def _of_store(options: RowOptions, site_in: str, site_out: str) -> Opened:
    from trialplate.activations.shards import open_store
    from trialplate.sae.source import from_store

    store = open_store(Path(str(options.rows)))
    if not site_in and len(store.sites) > 1:
        raise inputs.InputError(
            f"--rows {options.rows} has the sites {', '.join(store.sites)}; choose one by --hook-name"
        )
    site_in = site_in or store.sites[0]
    model = options.model_name or str(store.manifest["about"].get("model", ""))
    return Opened(from_store(store, site_in, site_out or site_in), site_in, site_out or site_in, model)
