"""Indirect object identification: two names come up, one of them comes up again, the other one is the answer.

After Wang et al. 2022 (arXiv:2211.00593), with templates of our own. Each draw gives four items: both orders of the first
mention (ABBA, BABA) times both roles of the two names, so that a preference for a name or for a position cancels exactly.
"""

from __future__ import annotations

from random import Random
from typing import Literal, NamedTuple

from trialplate.tasks.document import Document, Split, split_of
from trialplate.tasks.items import Encode, Item, make_item, take
from trialplate.tasks.lexicon import NAMES, OBJECTS, PLACES
from trialplate.tasks.requirements import single_token_words

TRAINED_TEMPLATES = (
    "When {first} and {second} went to the {place}, {subject} gave a {thing} to",
    "While {first} and {second} were at the {place}, {subject} handed a {thing} to",
    "Then {first} and {second} met near the {place}, and {subject} passed a {thing} to",
    "Yesterday {first} and {second} were alone in the {place}. {subject} showed a {thing} to",
    "Because {first} and {second} were friends, {subject} brought a {thing} from the {place} to",
)
HELD_OUT_TEMPLATE = "Yesterday {first} and {second} went to the {place}, and {subject} handed a {thing} to"
"""Known words in an order that training never shows."""

TEMPLATES = (*TRAINED_TEMPLATES, HELD_OUT_TEMPLATE)

Order = Literal["ABBA", "BABA"]


class Draw(NamedTuple):
    """Two names and a scene. The names are in the order of the draw; which of them is the subject is decided later."""

    template: int
    names: tuple[str, str]
    place: str
    thing: str

    @property
    def split(self) -> Split:
        low, high = sorted(self.names)
        return split_of(f"ioi:{self.template}:{low}:{high}:{self.place}:{self.thing}")

    def prompt(self, subject: str, order: Order) -> str:
        """ABBA: the subject is the second name mentioned; BABA: the first."""
        other = self.answer(subject)
        first, second = (other, subject) if order == "ABBA" else (subject, other)
        return TEMPLATES[self.template].format(
            first=first, second=second, subject=subject, place=self.place, thing=self.thing
        )

    def answer(self, subject: str) -> str:
        return self.names[1] if subject == self.names[0] else self.names[0]


def draw(rng: Random, templates: tuple[int, ...], names: tuple[str, ...] = NAMES) -> Draw:
    """One scene with two different names."""
    a, b = rng.sample(names, 2)
    return Draw(rng.choice(templates), (a, b), rng.choice(PLACES), rng.choice(OBJECTS))


def document(rng: Random, split: Split) -> Document:
    """One document of the corpus: a trained template, either order, either role."""
    scene = _draw_in(rng, split, range(len(TRAINED_TEMPLATES)), NAMES)
    subject = rng.choice(scene.names)
    prompt = scene.prompt(subject, rng.choice(("ABBA", "BABA")))
    return Document("ioi", prompt, f" {scene.answer(subject)}", ".")


def ioi_items(
    encode: Encode, n: int | None, seed: int, *, template: Literal["trained", "held_out"] = "trained"
) -> list[Item]:
    """n items whose scenes the embedded model was not trained on, in runs of four from one draw (n=None: 400).

    answer: the indirect object; foils: the subject; group: `ORDER/tN` (N = 5 is the template held out of training).
    Names are single tokens of `encode`; ValueError if fewer than 20 are."""
    names = tuple(single_token_words(encode, NAMES))
    if len(names) < 20:
        raise ValueError(
            f"ioi: wanted at least 20 names that are single tokens, got {len(names)} of {len(NAMES)} in this tokenizer"
        )
    allowed = range(len(TRAINED_TEMPLATES)) if template == "trained" else range(len(TRAINED_TEMPLATES), len(TEMPLATES))
    rng = Random(f"ioi:{template}:{seed}")
    items: list[Item] = []
    seen: set[Draw] = set()
    wanted = 400 if n is None else n
    while len(items) < wanted:
        scene = _draw_in(rng, "heldout", allowed, names)
        if scene not in seen:
            seen.add(scene)
            items.extend(_four(scene))
    return take(items, wanted, "ioi")


def _draw_in(rng: Random, split: Split, templates: range, names: tuple[str, ...]) -> Draw:
    while True:
        scene = draw(rng, tuple(templates), names)
        if scene.split == split:
            return scene


def _four(scene: Draw) -> list[Item]:
    orders: tuple[Order, Order] = ("ABBA", "BABA")
    return [
        make_item(
            "ioi",
            scene.prompt(subject, order),
            f" {scene.answer(subject)}",
            (f" {subject}",),
            group=f"{order}/t{scene.template}",
            order=order,
            template=scene.template,
        )
        for subject in scene.names
        for order in orders
    ]
