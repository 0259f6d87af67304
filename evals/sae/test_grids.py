"""Studies over grids of coders: k and width, a k that is chosen and confirmed, pulling seeds together, architectures at one L0, tokens and width.

All are slow: minutes a model (`make studies`); the program of each is the command of its name (`trialplate sae`). Budget: 0 CPU seconds in the default tier.
"""

import pytest
from evals.domain_texts import APPLIES
from evals.sae.conftest import SEEDS, K, as_estimate, plan

pytestmark = [*APPLIES, pytest.mark.slow, pytest.mark.requires_sae(0)]


@pytest.fixture
def study(subject, rows_at, site):
    """(rows, held-out rows, description of a topk coder, settings) of the default site."""
    rows, held_out = rows_at(site)
    return rows, held_out, *plan("topk", 0, rows.d_in, site, subject.name)


def test_ablation(study, record):
    """Stability above chance and explained variance over k and width; fewer latents than channels among them."""
    from trialplate.sae.programs.ablate import AblationOptions, run_ablation

    rows, held_out, config, settings = study
    options = AblationOptions(config, settings, ks=(4, 8, 16), d_saes=(64, 256), seeds=SEEDS)
    found = run_ablation(options, rows, held_out)
    record("missing_coders", found["n_missing"], n=len(found["conditions"]), study="ablation")
    for axis, conditions in found["axes"].items():
        for one in conditions:
            measured = found["conditions"][one["condition"]]
            if measured["status"] == "missing":
                continue
            chance = ("random directions", 0.0)
            record(
                "stability", **as_estimate(measured["stability"]["adjusted"]), null=chance, axis=axis, at=one["value"]
            )
            record("explained_variance", **as_estimate(measured["ev"]), axis=axis, at=one["value"])
    assert found["conditions"]


def test_calibration(study, record):
    """A k that meets a floor of explained variance, chosen on some seeds and confirmed on others."""
    from trialplate.sae.programs.calibrate import CalibrationOptions, run_calibration

    rows, held_out, config, settings = study
    options = CalibrationOptions(config, settings, ks=(2, 4, 8, 16), ev_floor=0.8, search_seeds=SEEDS)
    found = run_calibration(options, rows, held_out)
    assert found["status"] != "no_candidate", found["refused"]
    record("calibrated_k", found["selected_k"], n=len(options.ks), edge=found["edge"] or "no")
    bound = found["confirm_lower_bound"]
    record(
        "confirmed_stability",
        bound,
        n=len(options.confirm_seeds),
        null=("random directions", 0.0),
        k=found["selected_k"],
    )


def test_assignment(study, record):
    """Pulling coders towards a reference: what that does to families that never saw each other's reference, and to explained variance."""
    from trialplate.sae.programs.assign import AssignmentOptions, Family, run_assignment

    rows, held_out, config, settings = study
    families = tuple(Family(100 + f, (200 + 10 * f, 201 + 10 * f)) for f in range(3))
    options = AssignmentOptions(config, settings, lambdas=(0.0, 1.0, 10.0), families=families, ev_floor=0.7)
    found = run_assignment(options, rows, held_out)
    for one in found["strengths"]:
        about = {"strength": one["lambda"]}
        between = one["between_families"]
        record("stability", **as_estimate(between["adjusted"]), null=("random directions", 0.0), of="families", **about)
        record("explained_variance", **as_estimate(one["ev"]), **about)
    assert len(found["strengths"]) == 3


def test_frontier(study, record):
    """Explained variance of architectures at one L0 over seeds; one that misses it by more than a tenth is not ranked."""
    from trialplate.sae.programs.frontier import FrontierOptions, run_frontier

    rows, held_out, config, settings = study
    long = settings.with_(steps=600)
    names = ("topk", "batchtopk", "jumprelu", "relu", "routed")
    options = FrontierOptions(config, long, architectures=names, targets=(float(K), 16.0), seeds=SEEDS)
    found = run_frontier(options, rows, held_out)
    record("missing_coders", found["n_missing"], n=len(found["cells"]), study="frontier")
    for cell in found["cells"]:
        if cell["status"] == "missing":
            continue
        about = {"architecture": cell["architecture"], "target": cell["target"]}
        record("explained_variance", **as_estimate(cell["ev"]), status=cell["status"], **about)
        record("l0", **as_estimate(cell["l0"]), **about)
    assert len(found["cells"]) == 2 * len(names)


def test_scaling(study, site, record):
    """What is lost, over tokens and width: the slope of log(1 - explained variance), with an interval over seeds; a cell that is missing is reported."""
    from trialplate.sae.programs.scaling import ScalingOptions, run_scaling

    rows, held_out, config, settings = study
    options = ScalingOptions(
        config, settings, budgets=(1000, 3000, 9000), d_saes=(64, 128, 256), seeds=SEEDS, passes=8.0
    )
    found = run_scaling(options, {site: (rows, held_out)})
    record("missing_coders", found["n_missing"], n=found["n_cells"], study="scaling")
    for axis, slopes in found["slopes"].items():
        for one in slopes:
            if one["fit"] is None:
                continue
            at = one["d_sae" if axis == "budget" else "budget"]
            record("scaling_slope", **as_estimate(one["fit"]["slope"]), null=("no change", 0.0), axis=axis, at=at)
    assert found["n_cells"] == 9
