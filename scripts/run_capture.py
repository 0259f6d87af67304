import sys

from trialplate.cli.app import main

main(["capture", *sys.argv[1:]])
