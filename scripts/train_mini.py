import sys

from trialplate.cli.asa import app

app(["train-mini", *sys.argv[1:]])
