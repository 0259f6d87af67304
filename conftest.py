"""Short names for the options of the plugin: in this repository `--model` is as good as `--trialplate-model`."""

from trialplate.plugin.options import add_short_options


def pytest_addoption(parser):
    add_short_options(parser)
