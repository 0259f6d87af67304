"""The seeded generators that a manifest line may name: what each needs of a tokenizer, and the items it makes for one.

Two of them (`induction_words`, `induction_any`) make token sequences instead of items, since random tokens are not text: call
`trialplate.tasks.probes.induction` with the seed of the line. Those named `domain_...` make texts to read, with nothing to score:
`trialplate.tasks.stimuli.texts` gives them, and the texts of every other line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from trialplate.tasks.domains import DOMAINS, Text, domain_texts
from trialplate.tasks.items import Encode, Item, make_item
from trialplate.tasks.jsonl import did_you_mean
from trialplate.tasks.manifest_model import ProbeTask
from trialplate.tasks.probes.agreement import agreement_items
from trialplate.tasks.probes.arithmetic import arithmetic_items
from trialplate.tasks.probes.facts import capital_items
from trialplate.tasks.probes.greater_than import greater_than_items
from trialplate.tasks.probes.ioi import ioi_items
from trialplate.tasks.probes.minimal_pairs import minimal_pairs
from trialplate.tasks.requirements import unmet

Make = Callable[[Encode, int | None, int], list[Item]]
MakeTexts = Callable[[int | None, int], list[Text]]


@dataclass(frozen=True, slots=True)
class Generator:
    """What a name makes: items by make(encode, n, seed), or texts by texts(n, seed), or, with neither, token sequences.

    requires: names in `requirements.REQUIREMENTS`."""

    make: Make | None
    requires: tuple[str, ...] = ()
    texts: MakeTexts | None = None


def generate(task: ProbeTask, encode: Encode, n: int | None = None) -> list[Item]:
    """The items of a scored task for a tokenizer: those in its line, or made by its generator with its seed.

    n: how many (None: `source.num_docs`, and without that the generator's own number, or all items of the line).
    ValueError for a stimulus, for an unknown or sequence-making generator, and where the tokenizer cannot serve (see `unmet_needs`)."""
    source = task.source
    generated = source is not None and source.type == "generator"
    if not task.scored and (task.kind == "stimulus" or not generated):
        raise ValueError(
            f"task {task.task_id!r} is a stimulus: it has texts (`trialplate.tasks.stimuli.texts`) and no items to score"
        )
    if source is None or not generated:
        items = list(task.items())
        return items if n is None else items[:n]
    generator = generator_of(task)
    if generator.make is None:
        made, door = ("texts", "stimuli.texts") if generator.texts else ("token sequences", "probes.induction")
        raise ValueError(
            f"generator {source.name!r} of task {task.task_id!r} makes {made}, not items; call "
            f"trialplate.tasks.{door} with seed={source.seed}"
        )
    if reasons := unmet_needs(task, encode):
        raise ValueError(f"task {task.task_id!r} cannot be made for this tokenizer: {'; '.join(reasons)}")
    return generator.make(encode, source.num_docs if n is None else n, source.seed or 0)


def unmet_needs(task: ProbeTask, encode: Encode) -> list[str]:
    """Reasons why the task cannot be made for the tokenizer ("needs two-digit year tokens"); empty when it can."""
    if task.source is None or task.source.type != "generator":
        return []
    return unmet(encode, generator_of(task).requires)


def generator_of(task: ProbeTask) -> Generator:
    """The generator that the task names. ValueError with the nearest name when there is no such generator."""
    name = task.source.name if task.source is not None else ""
    if name not in GENERATORS:
        raise ValueError(
            f"task {task.task_id!r} names generator {name!r}, which does not exist{did_you_mean(name, GENERATORS)}; "
            f"known: {', '.join(GENERATORS)}"
        )
    return GENERATORS[name]


def _sums(encode: Encode, n: int | None, seed: int, *, largest: int) -> list[Item]:
    """Half additions, half subtractions (one addition more for an odd n)."""
    halves = (None, None) if n is None else (n - n // 2, n // 2)
    additions = arithmetic_items(encode, halves[0], seed, operation="add", largest=largest)
    if halves[1] == 0:
        return additions
    return additions + arithmetic_items(encode, halves[1], seed, operation="sub", largest=largest)


def _pairs(encode: Encode, n: int | None, seed: int) -> list[Item]:
    """Whole sentences after an empty prompt; group: the phenomenon. n in thirds, one a phenomenon, rounded up."""
    each = 60 if n is None else -(-n // 3)
    items = [
        make_item("minimal_pairs", "", pair.good, (pair.bad,), group=pair.uid) for pair in minimal_pairs(each, seed)
    ]
    return items if n is None else [item for rank in range(each) for item in items[rank::each]][:n]


GENERATORS: Mapping[str, Generator] = {
    "ioi": Generator(ioi_items, ("single_token_names",)),
    "induction_words": Generator(None, ("single_token_words",)),
    "induction_any": Generator(None),
    "greater_than": Generator(greater_than_items, ("two_digit_years", "single_token_nouns")),
    "arithmetic_20": Generator(partial(_sums, largest=20)),
    "arithmetic_99": Generator(partial(_sums, largest=99)),
    "capitals": Generator(capital_items, ("single_token_capitals",)),
    "agreement": Generator(partial(agreement_items, attractor=False), ("single_token_verbs",)),
    "agreement_attractor": Generator(partial(agreement_items, attractor=True), ("single_token_verbs",)),
    "minimal_pairs": Generator(_pairs),
    **{name: Generator(None, texts=partial(domain_texts, name)) for name in DOMAINS},
}
