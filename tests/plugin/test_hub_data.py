"""Data sets from the hub: written whole or not at all, only when asked for, and with a clear word on what is missing."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from trialplate.plugin import hub_data


class Rows:
    """What the data sets library returns, as far as we use it."""

    def __init__(self, fails=False):
        self.fails = fails

    def to_json(self, path, force_ascii):
        with Path(path).open("w", encoding="utf-8") as f:
            f.write('{"text": "one two"}\n')
            if self.fails:
                raise OSError("connection lost")


@pytest.fixture
def hub(monkeypatch):
    """hub(fails): a stand-in for the library that remembers what was asked of it."""
    asked = []

    def install(fails=False):
        def load_dataset(*args, **kwargs):
            asked.append((args, kwargs))
            return Rows(fails)

        monkeypatch.setitem(
            sys.modules,
            "datasets",
            SimpleNamespace(load_dataset=load_dataset, exceptions=SimpleNamespace(DatasetsError=KeyError)),
        )
        return asked

    return install


def test_a_fetched_file_is_where_the_readers_look(hub, tmp_path):
    asked = hub()
    assert hub_data.fetch("lambada_openai.jsonl", tmp_path / "data").read_text() == '{"text": "one two"}\n'
    assert asked == [(("EleutherAI/lambada_openai", "default"), {"split": "test", "revision": None})]


def test_a_broken_download_leaves_nothing(hub, tmp_path):
    hub(fails=True)
    with pytest.raises(hub_data.HubDataError, match=r"piqa.jsonl .*connection lost"):
        hub_data.fetch("piqa.jsonl", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_the_library_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(hub_data.HubDataError, match=r"pip install 'trialplate\[datasets\]'"):
        hub_data.fetch("sciq.jsonl", tmp_path)


def test_the_hub_is_asked_only_with_online(hub, pytester):
    asked = hub()
    pytester.makeini("[pytest]\ntrialplate_evals = .\ntrialplate_data = texts\n")
    pytester.makepyfile(
        test_suite="""
        import pytest

        @pytest.mark.requires_data("sciq.jsonl")
        def test_x(record, data_dir):
            record("accuracy", 1.0, n=len((data_dir / "sciq.jsonl").read_text().splitlines()))
        """
    )
    offline = pytester.runpytest_inprocess(".")
    offline.stdout.fnmatch_lines(["*not collected: needs sciq.jsonl in the data folder*"])
    assert asked == []
    online = pytester.runpytest_inprocess(".", "--trialplate-online")
    online.assert_outcomes(passed=1)
    assert len(asked) == 1
