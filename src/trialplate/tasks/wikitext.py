"""Raw WikiText (wikitext-2-raw-v1, wikitext-103-raw-v1): lines into pages, and tokenised prose back into prose.

Follows the document-level form that lm-evaluation-harness scores, so that numbers compare: the model reads `detokenise(page)`,
words and bytes are counted on the raw page. The texts are CC BY-SA and are not shipped; tests use pages of their own."""

from __future__ import annotations

import re

_LITERALS_FIRST = (("s '", "s'"), (" @-@ ", "-"), (" @,@ ", ","), (" @.@ ", "."))
_PUNCTUATION = ":;.!?,"
_BRACKETS = (("(", ")"), ("[", "]"), ("{", "}"), ('"', '"'), ("'", "'"))
_LITERALS_LAST = (
    ("= = = =", "===="),
    ("= = =", "==="),
    ("= =", "=="),
    (" ° ", "°"),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" N ", " 1 "),
    (" 's", "'s"),
)
_WHITE_SPACE = re.compile(r"\s+")


def split_pages(text: str) -> list[str]:
    """The pages of a raw file, each from its title line ` = Title = ` to the line before the next; pages of blanks are left out."""
    pages: list[list[str]] = [[]]
    for line in text.split("\n"):
        if _is_title(line):
            pages.append([])
        pages[-1].append(line)
    return [page for page in map("\n".join, pages) if page.strip()]


def detokenise(page: str) -> str:
    """The page without the tokeniser's marks: spaces before punctuation and inside brackets, ` @-@ `, spaced heading signs.

    It keeps the quirks that published numbers contain: any `s '` is closed, and a lone ` N ` becomes ` 1 `."""
    for old, new in _LITERALS_FIRST:
        page = page.replace(old, new)
    for mark in _PUNCTUATION:
        page = page.replace(f" {mark} ", f"{mark} ")
    for left, right in _BRACKETS:
        page = re.sub(rf"\{left}\s*([^\{right}]*?)\s*\{right}", rf"{left}\1{right}", page)
    for old, new in _LITERALS_LAST:
        page = page.replace(old, new)
    return page


def count_words(page: str) -> int:
    """Pieces between runs of white space, the empty ones at both ends included: the count under published word perplexities."""
    return len(_WHITE_SPACE.split(page))


def _is_title(line: str) -> bool:
    """One `=` on each side; section headings have more (`= = Name = =`)."""
    bare = line.strip()
    return bare.startswith("= ") and bare.endswith(" =") and not bare.startswith("= =") and not bare.endswith("= =")
