"""Do seeds agree on the directions, above chance, and is that because the model was trained? Budget: 6 CPU seconds.

Coders differ by seed alone and never saw each other. Chance is that of random directions of the same shape; the controls are the coders as they were
initialised, and coders of the same seeds trained on the activations of the random-weights twin of the model.
"""

import pytest
from evals.domain_texts import APPLIES
from evals.sae.conftest import SEEDS, as_estimate, plan

pytestmark = APPLIES


@pytest.mark.requires_sae(0)
def test_seeds(subject, own_coders, control, rows_at, site, record):
    """Matched cosine of decoders over three seeds, adjusted for chance, and how much more stable than coders of the random twin."""
    from trialplate.sae.programs.arms import over_seeds, train_arms
    from trialplate.sae.programs.conditions import measure
    from trialplate.sae.programs.control import ControlOptions, compare_with_controls, given_coders

    rows, held_out = rows_at(site)
    config, settings = plan("topk", 0, rows.d_in, site, subject.name)
    twin_rows = rows_at(site, None, control, "twin")
    arms = over_seeds(config, settings, SEEDS, order="own")
    twin = measure(train_arms(arms, *twin_rows), arms, twin_rows[1])
    trained = given_coders({seed: own_coders()["topk", seed].coder for seed in SEEDS}, held_out)
    found = compare_with_controls(
        ControlOptions(config, settings, SEEDS), trained, rows, held_out, twin=twin, init_seeds={s: s for s in SEEDS}
    )
    record_stability(record, found, coder="topk", kind="trained")
    assert len(found["condition"]["seeds"]) == len(SEEDS)


@pytest.mark.requires_sae(3)
def test_given(model, request, rows_at, record):
    """The same of the coders that --sae names, which are taken to differ by seed alone."""
    from trialplate.plugin import coders
    from trialplate.sae.programs.control import ControlOptions, compare_with_controls, given_coders

    given = [coders.load(path, model) for path in coders.paths(request.config)]
    c = given[0].config
    rows, held_out = rows_at(c.site_in, c.site_out if c.is_transcoder else None)
    seeds = tuple(range(len(given)))
    trained = given_coders(dict(enumerate(given)), held_out)
    options = ControlOptions(c, plan("topk", 0, c.d_in, c.site_in, "")[1], seeds)
    found = compare_with_controls(options, trained, rows, held_out)
    record_stability(record, found, coder="given", kind="given")
    assert len(found["condition"]["seeds"]) == len(given)


def record_stability(record, found, **about):
    chance = found["trained"]["chance"]
    record(
        "matched_cosine", **as_estimate(found["trained"]["raw"]), null=("random directions", chance["value"]), **about
    )
    untrained = found["untrained"]["adjusted"]["value"]
    record("stability", **as_estimate(found["trained"]["adjusted"]), null=("untrained coders", untrained), **about)
    record("stability", **as_estimate(found["untrained"]["adjusted"]), **{**about, "kind": "untrained"})
    over = ("no difference", 0.0)
    record("stability_over_untrained", **as_estimate(found["gain_over_untrained"]), null=over, **about)
    if found.get("gain_over_twin"):
        gain, twin = found["gain_over_twin"], found["twin"]["adjusted"]["value"]
        record("stability_gain", **as_estimate(gain), null=("coders of the random twin", twin), **about)
