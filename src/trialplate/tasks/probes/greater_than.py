"""Greater-than: something that began in the year XXYY ended in the year XX..; an end after the beginning is the only sensible one.

After Hanna et al. 2023 (arXiv:2305.00586), with nouns and a second template of our own. The answer is a set of tokens (every two
digits above YY), not one: `year_token_ids` gives the hundred ids over which an eval sums probability.
"""

from __future__ import annotations

from random import Random

from trialplate.tasks.document import Document, Split, split_of
from trialplate.tasks.items import Encode, Item, MetaValue, make_item, take
from trialplate.tasks.lexicon import DURATION_NOUNS
from trialplate.tasks.requirements import CENTURIES, single_token_words, splits_as_pairs, two_digit_years

TEMPLATES = (
    "The {noun} lasted from the year {century}{year:02d} to the year {century}",
    "The {noun} began in the year {century}{year:02d} and ended in the year {century}",
)
FIRST_YEAR, LAST_YEAR = 2, 97


def document(rng: Random, split: Split) -> Document:
    """One document of the corpus: the end is uniform over the years left in the century."""
    while True:
        template, noun = rng.randrange(len(TEMPLATES)), rng.choice(DURATION_NOUNS)
        century, year = rng.choice(CENTURIES), rng.randint(FIRST_YEAR, LAST_YEAR)
        if _split(noun, century, year) == split:
            prompt = TEMPLATES[template].format(noun=noun, century=century, year=year)
            return Document("years", prompt, f"{rng.randint(year + 1, 99):02d}", ".")


def year_token_ids(encode: Encode) -> list[int]:
    """Ids of "00" .. "99" as they continue a century; index = the year. ValueError if one of them is not a single token."""
    if (reason := two_digit_years(encode)) is not None:
        raise ValueError(f"greater_than: {reason}")
    return [encode(f"{year:02d}")[0] for year in range(100)]


def greater_than_items(encode: Encode, n: int | None, seed: int) -> list[Item]:
    """n prompts that the embedded model was not trained on (n=None: 200); the beginning is in `meta` (`year` 2..97, `century`).

    answer: the year after the beginning, "YY+1"; foils: the year before it, "YY-1" (their difference is the sharpness).
    Score over `year_token_ids`: P(y > year) - P(y <= year). Years are used whose token cut is " XX" + "YY" in this tokenizer."""
    year_token_ids(encode)
    nouns = single_token_words(encode, DURATION_NOUNS)
    cut = {(c, y) for c in CENTURIES for y in range(FIRST_YEAR, LAST_YEAR + 1) if splits_as_pairs(encode, c, y)}
    if not nouns:
        raise ValueError("greater_than: wanted nouns that are single tokens, got none in this tokenizer")
    candidates = [(noun, c, y) for noun in nouns for c, y in sorted(cut) if _split(noun, c, y) == "heldout"]
    rng = Random(f"greater_than:{seed}")
    rng.shuffle(candidates)
    wanted = 200 if n is None else n
    return take([_item(rng.randrange(len(TEMPLATES)), *candidate) for candidate in candidates], wanted, "greater_than")


def _item(template: int, noun: str, century: int, year: int) -> Item:
    prompt = TEMPLATES[template].format(noun=noun, century=century, year=year)
    facts: dict[str, MetaValue] = {"year": year, "century": century, "noun": noun, "template": template}
    return make_item("greater_than", prompt, f"{year + 1:02d}", (f"{year - 1:02d}",), group=f"t{template}", **facts)


def _split(noun: str, century: int, year: int) -> Split:
    return split_of(f"years:{noun}:{century}:{year}")
