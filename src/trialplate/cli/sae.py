"""`trialplate sae`: train, measure and stress sparse autoencoders and transcoders. Each command writes a result file named after its role."""

from __future__ import annotations

import typer

from trialplate.cli.sae_circuit import circuit
from trialplate.cli.sae_dashboard import dashboard
from trialplate.cli.sae_eval import evaluate
from trialplate.cli.sae_external import external
from trialplate.cli.sae_stability import control, stability
from trialplate.cli.sae_stress import ood_stress, transcoder_stress
from trialplate.cli.sae_studies import ablate, assign, calibrate_l0, frontier, scaling
from trialplate.cli.sae_train import train

coders = typer.Typer(help=__doc__, no_args_is_help=True)
coders.command("train")(train)
coders.command("eval")(evaluate)
coders.command("dashboard")(dashboard)
coders.command("stability")(stability)
coders.command("control")(control)
coders.command("ablate")(ablate)
coders.command("calibrate-l0")(calibrate_l0)
coders.command("assign")(assign)
coders.command("transcoder-stress")(transcoder_stress)
coders.command("ood-stress")(ood_stress)
coders.command("frontier")(frontier)
coders.command("scaling")(scaling)
coders.command("circuit")(circuit)
coders.command("external")(external)
