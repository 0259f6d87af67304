import sys

from trialplate.cli.asa import app

app(["probe", *sys.argv[1:]])
