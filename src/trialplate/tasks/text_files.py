"""A text file cut into documents, so that each can be scored, counted and resampled on its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args

from trialplate.tasks.wikitext import split_pages

Cut = Literal["blank_line", "line", "wikitext_page", "whole"]
CUTS: tuple[Cut, ...] = get_args(Cut)

_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")


def split_documents(text: str, cut: Cut = "blank_line") -> tuple[str, ...]:
    """The documents of a text, in order; those of white space only are left out.

    blank_line     what stands between blank lines, without the white space around it
    line           every line, without the white space around it
    wikitext_page  raw WikiText: a page from its title to the next, unchanged (its rows are lines, not documents)
    whole          the text as it is"""
    if cut == "blank_line":
        pieces = [piece.strip() for piece in _BLANK_LINES.split(text.replace("\r\n", "\n"))]
    elif cut == "line":
        pieces = [line.strip() for line in text.split("\n")]
    elif cut == "wikitext_page":
        pieces = split_pages(text)
    else:
        pieces = [text]
    return tuple(piece for piece in pieces if piece.strip())


def decode_documents(content: bytes, path: Path | str, cut: Cut = "blank_line") -> tuple[str, ...]:
    """As `split_documents`, from the bytes of a file; ValueError naming it when it is not UTF-8 or holds no document."""
    try:
        documents = split_documents(content.decode("utf-8"), cut)
    except UnicodeDecodeError as cause:
        raise ValueError(f"{path}: not UTF-8 at byte {cause.start} ({cause.reason}); save the file as UTF-8") from cause
    if not documents:
        raise ValueError(f"{path}: no document in it (cut by {cut}); there is nothing to score")
    return documents


def read_text_documents(path: Path | str, cut: Cut = "blank_line") -> tuple[str, ...]:
    """The documents of a UTF-8 file. FileNotFoundError when it is absent, ValueError naming it when it has no document."""
    return decode_documents(Path(path).read_bytes(), path, cut)
