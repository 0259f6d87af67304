"""Short names of well-known models. A short name means exactly the model it names: `pythia-70m` is never the deduped one. Standard library only."""

import difflib
from dataclasses import dataclass

EMBEDDED_STORED = ("embedded:neox-tiny", "embedded:asm-tiny")
# Name -> (stored model whose configuration and tokenizer it takes, seed of its weights).
EMBEDDED_RANDOM: dict[str, tuple[str, int]] = {
    "embedded:neox-random": ("embedded:neox-tiny", 0),
    "embedded:asm-random": ("embedded:asm-tiny", 0),
}
EMBEDDED: tuple[str, ...] = (*EMBEDDED_STORED, *EMBEDDED_RANDOM)

# Biderman et al. 2023 (arXiv:2304.01373): 154 checkpoints of each model, dense at the start.
PYTHIA_STEPS: tuple[int, ...] = (0, *(2**k for k in range(10)), *range(1000, 143_001, 1000))


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A short name, the hub id that it stands for, the architecture, and the named training steps if the model has them."""

    name: str
    hub_id: str
    family: str
    steps: tuple[int, ...] = ()


def _pythia(size: str) -> list[CatalogEntry]:
    names = (f"pythia-{size}", f"pythia-{size}-deduped")
    return [CatalogEntry(name, f"EleutherAI/{name}", "gpt_neox", PYTHIA_STEPS) for name in names]


PYTHIA_SIZES = ("14m", "31m", "70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b")
_ENTRIES = [
    *(entry for size in PYTHIA_SIZES for entry in _pythia(size)),
    CatalogEntry("gpt2", "openai-community/gpt2", "gpt2"),
    CatalogEntry("gpt2-medium", "openai-community/gpt2-medium", "gpt2"),
    CatalogEntry("gpt2-large", "openai-community/gpt2-large", "gpt2"),
    CatalogEntry("gpt2-xl", "openai-community/gpt2-xl", "gpt2"),
    CatalogEntry("distilgpt2", "distilbert/distilgpt2", "gpt2"),
    CatalogEntry("opt-125m", "facebook/opt-125m", "opt"),
    CatalogEntry("opt-350m", "facebook/opt-350m", "opt"),
    CatalogEntry("opt-1.3b", "facebook/opt-1.3b", "opt"),
    CatalogEntry("gpt-neo-125m", "EleutherAI/gpt-neo-125m", "gpt_neo"),
    CatalogEntry("gpt-neo-1.3b", "EleutherAI/gpt-neo-1.3B", "gpt_neo"),
    CatalogEntry("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B", "qwen2"),
    CatalogEntry("smollm2-135m", "HuggingFaceTB/SmolLM2-135M", "llama"),
]
CATALOG: dict[str, CatalogEntry] = {entry.name: entry for entry in _ENTRIES}
_BY_HUB_ID: dict[str, CatalogEntry] = {entry.hub_id: entry for entry in _ENTRIES}


def canonical_name(name: str) -> str:
    """The short name of a model given by its short name or hub id; any other name unchanged."""
    entry = _BY_HUB_ID.get(name)
    return entry.name if entry else name


def catalog_entry(name: str) -> CatalogEntry | None:
    """The entry of a short name or a hub id, or None."""
    return CATALOG.get(canonical_name(name))


def nearest_names(name: str, count: int = 3) -> list[str]:
    """Embedded and catalogue names that look most like `name`, best first."""
    known = [*EMBEDDED, *CATALOG]
    near = difflib.get_close_matches(name.rsplit("/", 1)[-1].lower(), known, n=count, cutoff=0.5)
    return near or difflib.get_close_matches(name.lower(), known, n=count, cutoff=0.3)


def unknown_step(entry: CatalogEntry, revision: str) -> str | None:
    """Why `stepN` is no checkpoint of this model, or None where it is one or where the revision is not a step at all (a branch, a commit)."""
    number = revision.removeprefix("step")
    if not entry.steps or not revision.startswith("step") or not number.isdecimal() or int(number) in entry.steps:
        return None
    near = sorted(entry.steps, key=lambda step: (abs(step - int(number)), step))[:2]
    names = " and ".join(f"step{step}" for step in sorted(near))
    return f"{entry.name} has no checkpoint {revision!r} (it has {len(entry.steps)}, from step{entry.steps[0]} to step{entry.steps[-1]}); nearest are {names}"
