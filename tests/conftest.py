"""Tests of the project's own code; `pytester` runs suites of other people inside them."""

pytest_plugins = ["pytester"]
