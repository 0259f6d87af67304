import sys

from trialplate.cli.asa import app

app(["smoke", *sys.argv[1:]])
