"""The prompt sets of the Paris-margin probe. The margin is logit(target) - logit(rival) at the last token of a prompt.

`notebook`: " Paris" against " the"; fourteen prompts about France and three about the capitals of other countries, which are controls.
`checkpoint`: " Paris" against " London"; six prompts, of which three do not ask for the capital or a city of France: controls as well.
`character`: "P" against "L" after a prompt that ends in a space, for a vocabulary of characters.
`embedded`: the definition of `notebook`, on the phrasings that the corpus of the embedded models teaches."""

from __future__ import annotations

from dataclasses import dataclass

from trialplate.routing.errors import ProbeError
from trialplate.tasks.lexicon import COUNTRIES
from trialplate.tasks.probes.facts import CAPITAL_TEMPLATES, prompt_of


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text; `is_control` where its true continuation is not the target."""

    text: str
    is_control: bool = False


@dataclass(frozen=True, slots=True)
class PromptSet:
    """Prompts and the two words whose logits are compared; `definition` says in a sentence what the margin is."""

    name: str
    definition: str
    target: str
    rival: str
    prompts: tuple[Prompt, ...]


_FRANCE = """The capital of France is|France's capital city is|In France, the capital is|The seat of government of France is
    |The city that is France's capital is|The Eiffel Tower is located in|The Louvre is in|The Seine river flows through
    |During the French Revolution, the city of|Napoleon crowned himself in|In World War II, the liberation of
    |The largest city in France is|A major European city in France is|A famous city on the Seine is"""
_CONTROL_COUNTRIES = ("Germany", "England", "Italy")


def _about_france() -> tuple[Prompt, ...]:
    about = tuple(Prompt(text.strip()) for text in _FRANCE.split("|"))
    return about + tuple(Prompt(f"The capital of {country} is", is_control=True) for country in _CONTROL_COUNTRIES)


def _taught() -> tuple[Prompt, ...]:
    """Every phrasing of the corpus for France, and for the control countries; one phrasing of each country is held out of training."""
    countries = {country.name: country for country in COUNTRIES}
    return tuple(
        Prompt(prompt_of("capital", countries[name], template), is_control=name != "France")
        for name in ("France", *_CONTROL_COUNTRIES)
        for template in range(len(CAPITAL_TEMPLATES))
    )


NOTEBOOK = PromptSet(
    "notebook",
    'log P(" Paris") - log P(" the") at the last token; the mean over all prompts includes the three controls',
    " Paris",
    " the",
    _about_france(),
)
CHECKPOINT = PromptSet(
    "checkpoint",
    'logit(" Paris") - logit(" London") at the last token, mean over six prompts; routing statistics of layer 0 on random tokens',
    " Paris",
    " London",
    (
        Prompt("The capital of France is"),
        Prompt("France's capital city is"),
        Prompt("Paris is the capital of", is_control=True),
        Prompt("The capital of the UK is", is_control=True),
        Prompt("London is the capital of", is_control=True),
        Prompt("A major city in France is"),
    ),
)
CHARACTER = PromptSet(
    "character",
    'logit("P") - logit("L") after the space that ends the prompt, with a vocabulary of characters',
    "P",
    "L",
    (
        Prompt("The capital of France is "),
        Prompt("France's capital city is "),
        Prompt("Paris is the capital of ", is_control=True),
        Prompt("In Europe, the capital of France is "),
    ),
)
EMBEDDED = PromptSet(
    "embedded",
    'log P(" Paris") - log P(" the") at the last token of the phrasings that the corpus of the embedded models teaches; other countries are controls',
    " Paris",
    " the",
    _taught(),
)
PROMPT_SETS: dict[str, PromptSet] = {chosen.name: chosen for chosen in (NOTEBOOK, CHECKPOINT, CHARACTER, EMBEDDED)}


def prompt_set(name: str) -> PromptSet:
    """The set of that name. Raises ProbeError for another."""
    if name not in PROMPT_SETS:
        raise ProbeError(f"no prompt set {name!r}: wanted one of {', '.join(PROMPT_SETS)}")
    return PROMPT_SETS[name]
