"""Folders of notebooks and scripts, written by the tests."""

import json

import pytest

from trialplate.inventory.scan import scan


def cell(source, kind="code"):
    """A notebook's cell."""
    return {"cell_type": kind, "source": source, "metadata": {}}


@pytest.fixture
def notebook():
    """notebook(*cells, **metadata): the bytes of a notebook; cells are code, or pairs (text, kind)."""

    def make(*cells, **metadata):
        found = [cell(*c) if isinstance(c, tuple) else cell(c) for c in cells]
        return json.dumps({"cells": found, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}).encode()

    return make


@pytest.fixture
def scanned(tmp_path):
    """scanned({name: text or bytes}) -> the inventory of a folder with these files."""

    def make(files):
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return scan(tmp_path)

    return make


@pytest.fixture
def entry(scanned):
    """entry(text or bytes, name="x.py") -> what is found in one file."""

    def make(content, name="x.py"):
        (found,) = scanned({name: content}).entries
        return found

    return make
