"""`--model PATH` with a space lets pytest take PATH for a test path while it looks for its ini file: the options of a repository's own
conftest are not known yet. Such a run would have another root, another ini file, and none of our settings; it is refused."""

from __future__ import annotations

import configparser
import itertools
import tomllib
from pathlib import Path

import pytest

from trialplate.plugin import options

_SHORT = {options.flag(name, "") for name in options.SHORT}
_OWN_FILES = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini")


def check(config: pytest.Config) -> None:
    """Raise UsageError where the path of one of our short options moved pytest's ini file."""
    if config.inipath is None or config.getoption("inifilename", None):
        return
    start = config.invocation_params.dir
    spaced = [
        (flag, value)
        for flag, value in itertools.pairwise(str(a) for a in config.invocation_params.args)
        if flag in _SHORT and Path(start, value).exists()
    ]
    meant = _ini_of([Path(start, str(a).partition("::")[0]) for a in config.args]) if spaced else None
    if meant is not None and meant.resolve() != config.inipath.resolve():
        flag, value = next((s for s in spaced if config.inipath.is_relative_to(Path(start, s[1]))), spaced[0])
        raise pytest.UsageError(
            f"{flag} {value} made pytest take that path for a test path: it read {config.inipath} instead of {meant}. "
            f"Write {flag}={value}, with an equals sign"
        )


def _ini_of(paths: list[Path]) -> Path | None:
    """The ini file that pytest would take for these test paths alone."""
    for path in paths:
        for folder in (path, *path.parents):
            for name in (*_OWN_FILES, "pyproject.toml", "tox.ini", "setup.cfg"):
                if (folder / name).is_file() and _configures_pytest(folder / name):
                    return folder / name
    return None


def _configures_pytest(file: Path) -> bool:
    if file.name in _OWN_FILES:
        return True
    text = file.read_text(encoding="utf-8", errors="replace")
    try:
        if file.suffix == ".toml":
            return "pytest" in tomllib.loads(text).get("tool", {})
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(text)
    except (tomllib.TOMLDecodeError, configparser.Error):
        return False
    return parser.has_section("tool:pytest" if file.name == "setup.cfg" else "pytest")
