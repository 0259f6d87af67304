import sys

from trialplate.cli.app import app

app(["plot", *sys.argv[1:]])
