"""`asa probe`: the Paris-margin probe of a checkpoint, from its name to a folder with one document and one picture."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from asa.asm_lm import ASMLanguageModel
    from trialplate.routing.encoding import EncodedPrompts
    from trialplate.routing.probe import ProbeSettings
    from trialplate.tasks.items import Encode

DEFAULT = "embedded:asm-tiny"
JSON, PICTURE, COMPARISON = "paris_margin.json", "paris_margin.png", "comparison.json"


def probe(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            help=f"A checkpoint file or folder, or an embedded name. Default: {DEFAULT}; with --mode character a small random model."
        ),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            help="notebook, checkpoint, character or embedded. Default: embedded for embedded models, else notebook."
        ),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="A tokenizer.json, a folder or a model name. Default: the checkpoint's own.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N or mps.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Of the bootstrap, the random models and the random tokens.")] = 0,
    outdir: Annotated[
        Path | None, typer.Option(help="Folder to write; must not exist. Default: runs/probes/TIME-MODE.")
    ] = None,
    layers: Annotated[str | None, typer.Option(help="Layers, such as 0,5,13. Default: all.")] = None,
    match: Annotated[
        str, typer.Option(help="Unit of a step: relative_norm, late_window_sd or output_kl.")
    ] = "relative_norm",
    frozen: Annotated[
        str,
        typer.Option(help="Routing that the residual step cannot change: downstream, layer (as published) or none."),
    ] = "downstream",
    forcing: Annotated[
        str, typer.Option(help="What a routing step is added to: own, or head_mean (forced on every head).")
    ] = "own",
    null: Annotated[bool, typer.Option("--null/--no-null", help="Run the same on random models.")] = True,
    null_models: Annotated[int, typer.Option(min=1, help="Random models of the null.")] = 3,
    legacy: Annotated[
        bool, typer.Option("--legacy", help="Also the published parity and frozen experiments, as they were.")
    ] = False,
    basin: Annotated[
        int, typer.Option(min=0, help="Points on a side of the energy basin; published: 60; 0: none.")
    ] = 0,
    target: Annotated[str | None, typer.Option(help="Another target, with its leading space.")] = None,
    rival: Annotated[str | None, typer.Option(help="Another rival, with its leading space.")] = None,
    first_token: Annotated[
        bool, typer.Option("--first-token", help="Compare the first tokens of words that are several.")
    ] = False,
    bos: Annotated[
        bool | None,
        typer.Option("--bos/--no-bos", help="Put the beginning token before prompts. Default: as the tokenizer asks."),
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(help=f"A {JSON} from before a change; writes {COMPARISON} as well.")
    ] = None,
    tag: Annotated[str, typer.Option(help="A name to keep in the document.")] = "",
) -> None:
    """Measure the margin of " Paris" on every prompt, and whether routing or the residual stream moves it, beside a random-weights null."""
    from asa.checkpoint import CheckpointError
    from trialplate.models.errors import ModelError

    asked = _Asked(checkpoint, mode, tokenizer, device, seed, target, rival, first_token, bos)
    try:
        settings = _settings(layers, match, frozen, forcing, seed, null_models if null else 0, legacy, basin)
        folder = _probe(asked, settings, outdir, compare, tag)
    except (CheckpointError, ModelError, OSError, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"written: {folder}")


@dataclass(frozen=True, slots=True)
class _Asked:
    """The options that choose model, prompts and words."""

    checkpoint: str | None
    mode: str | None
    tokenizer: str | None
    device: str
    seed: int
    target: str | None
    rival: str | None
    first_token: bool
    bos: bool | None

    @property
    def mode_name(self) -> str:
        """The prompt set: named, or that of the kind of model."""
        embedded = self.checkpoint is None or self.checkpoint.startswith("embedded:")
        return self.mode or ("embedded" if embedded else "notebook")


@dataclass(frozen=True, slots=True)
class _Subject:
    """What is probed: a model, how its texts become ids and back, the token before every prompt, and what to say of it."""

    model: ASMLanguageModel
    encode: Encode
    decode: Callable[[Sequence[int]], str]
    lead: tuple[int, ...]
    about: dict[str, Any]


def _probe(asked: _Asked, settings: ProbeSettings, outdir: Path | None, compare: Path | None, tag: str) -> Path:
    from asa.utils.device import environment, find_device
    from trialplate.figures.paris_margin import paris_margin_png
    from trialplate.routing.folder import json_bytes, refuse_existing, write_folder
    from trialplate.routing.probe import run_probe
    from trialplate.routing.prompts import prompt_set
    from trialplate.routing.results import before_and_after, document

    folder = outdir or Path("runs") / "probes" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{asked.mode_name}"
    refuse_existing(folder)  # before minutes are spent
    before = None if compare is None else _read_json(compare)
    source = prompt_set(asked.mode_name)
    place = find_device(asked.device)
    subject = _subject(asked, place)
    prompts = _prompts(asked, source, subject)
    with _one_thread(place):
        run = run_probe(subject.model, prompts, settings, progress=lambda text: typer.echo(text, err=True))
        about = {**subject.about, "environment": environment(place)}
    found = document(run, subject.decode, about, tag)
    files = {JSON: json_bytes(found), PICTURE: paris_margin_png(found)}
    if before is not None:
        files[COMPARISON] = json_bytes(before_and_after(before, found))
    write_folder(folder, files)
    _say(found)
    return folder


def _settings(
    layers: str | None,
    match: str,
    frozen: str,
    forcing: str,
    seed: int,
    n_null: int,
    legacy: bool,
    basin: int,
) -> ProbeSettings:
    from trialplate.routing.arms import Forcing, Freezing
    from trialplate.routing.comparison import ComparisonSettings
    from trialplate.routing.matching import Match
    from trialplate.routing.probe import ProbeSettings

    for option, value, allowed in (
        ("--match", match, get_args(Match)),
        ("--frozen", frozen, get_args(Freezing)),
        ("--forcing", forcing, get_args(Forcing)),
    ):
        if value not in allowed:
            raise ValueError(f"{option}: wanted one of {', '.join(allowed)}, got {value!r}")
    comparison = ComparisonSettings(frozen=frozen, match=match, forcing=forcing)  # type: ignore[arg-type]
    return ProbeSettings(_layers(layers), comparison, seed, n_null, legacy, basin)


def _layers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ValueError(f"--layers: wanted numbers with commas between them, such as 0,5,13, got {text!r}")
    return [int(part) for part in parts]


def _prompts(asked: _Asked, source: Any, subject: _Subject) -> EncodedPrompts:
    from trialplate.routing.encoding import encode_prompts

    words = {name: word for name, word in (("target", asked.target), ("rival", asked.rival)) if word is not None}
    if words:
        source = dataclasses.replace(source, **words, definition=f"{source.definition}; with other words: {words}")
    return encode_prompts(
        source,
        subject.encode,
        vocab_size=subject.model.vocab_size,
        max_seq_len=subject.model.max_seq_len,
        lead=subject.lead,
        first_token=asked.first_token,
        device=subject.model.tok.weight.device,
    )


def _subject(asked: _Asked, place: torch.device) -> _Subject:
    """The model and its tokenizer. A vocabulary of characters belongs to the definition of that name and needs no file."""
    model, about = _model(asked, place)
    about |= {"n_parameters": sum(p.numel() for p in model.parameters())}
    if asked.mode_name == "character" and asked.tokenizer is None:
        from trialplate.routing.characters import character_decode, character_encode

        return _Subject(model, character_encode(), character_decode(), (), {**about, "tokenizer": "characters"})
    adapter = _tokenizer(asked)
    wants_bos = adapter.adds_bos if asked.bos is None else asked.bos
    if wants_bos and adapter.bos_id is None:
        raise ValueError("--bos: this tokenizer has no beginning token; leave it out")
    lead = (adapter.bos_id,) if wants_bos and adapter.bos_id is not None else ()
    known = {"tokenizer": asked.tokenizer or "the checkpoint's", "tokenizer_sha256": adapter.digest, "lead": list(lead)}
    return _Subject(model, adapter.encode, adapter.decode, lead, {**about, **known})


def _model(asked: _Asked, place: torch.device) -> tuple[ASMLanguageModel, dict[str, Any]]:
    import torch

    from asa.checkpoint import load_checkpoint
    from asa.utils.files import sha256_of
    from trialplate.models.resolve import resolve
    from trialplate.models.spec import ModelSpec
    from trialplate.routing.characters import random_character_model

    if asked.checkpoint is None and asked.mode_name == "character":
        random = random_character_model(asked.seed).to(place)
        return random, {"name": f"random weights, seed {asked.seed}", "cfg": _cfg(random)}
    name = asked.checkpoint or DEFAULT
    found = resolve(ModelSpec(name))
    if found.random_seed is not None:
        raise ValueError(
            f"{name} has drawn weights; probe the stored model of that configuration: random models are its null"
        )
    loaded = load_checkpoint(found.checkpoint or found.path, device=place, dtype=torch.float32)
    report = loaded.report
    return loaded.model, {
        "name": name,
        "file": report.path.name,
        "sha256": sha256_of(report.path),
        "step": report.step,
        "cfg": _cfg(loaded.model),
        "loading": report.render().splitlines()[1:],
    }


def _cfg(model: ASMLanguageModel) -> dict[str, Any]:
    assert model.cfg is not None  # both ways to make it above set it
    return model.cfg.to_dict()


def _tokenizer(asked: _Asked) -> Any:
    from trialplate.models.errors import TokenizerError
    from trialplate.models.resolve import resolve
    from trialplate.models.spec import ModelSpec
    from trialplate.models.tokenizers import load_tokenizer, source_tokenizer

    if asked.tokenizer is None:
        try:
            return source_tokenizer(resolve(ModelSpec(asked.checkpoint or DEFAULT)))
        except TokenizerError as error:
            raise TokenizerError(f"{error} Or name the model's tokenizer with --tokenizer.") from error
    path = Path(asked.tokenizer).expanduser()
    if path.is_file() and path.name != "tokenizer.json":
        raise ValueError(f"--tokenizer {path}: wanted a file named tokenizer.json, a folder or a model name")
    if path.exists():
        return load_tokenizer(path.parent if path.is_file() else path)
    return source_tokenizer(resolve(ModelSpec(asked.tokenizer), weights=False))


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"--compare {path} is not JSON: {error}; give a {JSON}") from error
    if not isinstance(content, dict):
        raise ValueError(f"--compare {path} holds a {type(content).__name__}: wanted the object of a {JSON}")
    return content


@contextmanager
def _one_thread(place: torch.device) -> Iterator[None]:
    from asa.utils.device import repeatable

    with repeatable(place, 1):
        yield


def _say(found: Mapping[str, Any]) -> None:
    """The few lines that a person wants first."""
    for role in ("target", "control"):
        if (estimate := found["estimates"][role]) is not None:
            ci = estimate["ci"]
            interval = f"  [{ci[0]:+.3f}, {ci[1]:+.3f}]" if ci else ""
            typer.echo(f"margin of {estimate['n']:>3} {role} prompts: {estimate['value']:+.3f}{interval}")
    for layer in found["layers"]:
        corrected = layer["corrected"]
        share = corrected["routing_share"]
        typer.echo(
            f"layer {layer['layer']:>2}: routing {corrected['routing']['value']:+.4g}  residual {corrected['residual']['value']:+.4g}  "
            f"share of routing {'undefined' if share is None else format(share['value'], '.3f')}"
        )
    typer.echo(found["finding"])
