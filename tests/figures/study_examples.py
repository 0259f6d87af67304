"""Results of studies that pictures are drawn from in tests: values that can be read off again."""

import json


def estimate(value, half=0.01, n=3):
    """An estimate with an interval that reaches `half` each way; none for half=None."""
    ends = None if half is None else [value - half, value + half]
    return {
        "value": value,
        "n": n,
        "stderr": None if half is None else half / 2,
        "ci": ends,
        "level": 0.95,
        "method": "m",
    }


def core(ev, l0=8.0, dead=1, latents=(0, 2, 5)):
    """Densities in three bins of a third of a decade, from 0.1 to 1."""
    edges = [-1.0, -2 / 3, -1 / 3, 0.0]
    return {
        "n_tokens": 100,
        "estimates": {"ev": estimate(ev), "l0": estimate(l0, 0.0)},
        "density": {"log10_edges": edges, "latents": list(latents), "dead": dead},
    }


def evaluation(random=True, seen="no"):
    """A coder that explains 0.9, and a random one that explains 0.2."""
    coder = {"architecture": "topk", "site_in": "L2.resid_post", "d_sae": 8}
    return {
        "coder": coder,
        "core": core(0.9),
        "random": core(0.2, latents=(4, 4, 0), dead=0) if random else None,
        "rows_seen_in_training": seen,
    }


def cell(architecture, target, ev, l0=None, status="matched"):
    """One cell of a frontier; a missing one has no numbers."""
    about = {"architecture": architecture, "target": target, "status": status}
    return about if status == "missing" else {**about, "ev": estimate(ev), "l0": estimate(l0 or target, 0.1)}


def frontier_result():
    """topk at two targets, relu matched, off its target, and missing."""
    cells = [
        *(cell("topk", 4, 0.8), cell("topk", 16, 0.9)),
        *(cell("relu", 4, 0.7), cell("relu", 16, 0.75, l0=30.0, status="unmatched"), cell("relu", 64, 0, status="missing")),
    ]  # fmt: skip
    return {"tolerance": 0.1, "cells": cells}


def arm(value, chance=0.2, n=3):
    """A similarity over seeds, adjusted for chance; its pairs lie 0.01 around it."""
    adjusted = (value - chance) / (1 - chance)
    return {
        "raw": estimate(value), "chance": estimate(chance, 0.0), "adjusted": estimate(adjusted, 0.02), "n_seeds": n,
        "pairs": [value - 0.01, value, value + 0.01],
    }  # fmt: skip


def control_result(twin=True, conclusion="training_signal", over_twin=0.25):
    """Trained coders at 0.6, controls at their chance level of 0.2, a twin at 0.4. Adjusted, they gain 0.5 over all but the twin."""
    arms = {"trained": arm(0.6), "random": arm(0.2), "untrained": arm(0.2), "twin": arm(0.4) if twin else None}
    about = {
        "conclusion": conclusion,
        "gain": estimate(0.5),
        "gain_over_untrained": estimate(0.5),
        "gain_over_twin": estimate(over_twin) if twin else None,
        "minimum_effect": {"wanted": 0.1},
        "architecture": "topk",
        "shape": [8, 4],
    }
    return {**arms, **about}


def stability_result():
    """Two similarities with chance levels of their own."""
    about = {"n_coders": 3, "architecture": "topk", "latents": "all"}
    return {**about, "statistics": {"matched_cosine": arm(0.6), "mutual_nearest": arm(0.5, chance=0.5)}}


def transcoder_result():
    """One condition."""
    kinds = {"transcoder": {"stability": arm(0.6)}, "autoencoder": {"stability": arm(0.4)}}
    return {
        "delta": estimate(0.25),
        "rule": "one condition",
        "floors_met": True,
        "conditions": [{"key": "abcdef012345", **kinds}],
    }


def scaling_result(hole=False):
    """1 - EV = 0.4 T^-0.5 at the width 64, exactly: 0.04 at 100, 0.02 at 400 and 0.01 at 1600. With a hole the line is not fitted."""
    cells = [
        {
            "site": "L2",
            "budget": t,
            "d_sae": 64,
            "status": "measured",
            "ev": estimate(1 - 0.4 * t**-0.5, 0.001),
            "seeds": [0, 1, 2],
        }
        for t in (100, 400, 1600)
    ]
    if hole:
        cells[1] = {**cells[1], "status": "missing"}
        del cells[1]["ev"]
    fit = {"slope": estimate(-0.5, 0.05), "intercept": estimate(-0.916290731874155), "bend": None}
    lacks = ["budget 400 seed 1"] if hole else []
    slopes = {
        "budget": [{"site": "L2", "d_sae": 64, "fit": None if hole else fit, "lacks": lacks}],
        "d_sae": [{"site": "L2", "budget": t, "fit": None, "lacks": []} for t in (100, 400, 1600)],
    }
    return {"cells": cells, "slopes": slopes}


def ablation_result():
    """EV 0.8 and 0.9 at k = 4 and 8 of 64 latents; similarities of 0.36 and 0.6 at a chance of 0.2, so 0.2 and 0.5 of the way. One width."""
    conditions = {
        name: {"k": k, "d_sae": 64, "seeds": [0, 1, 2], "ev": estimate(ev), "stability": arm(similarity)}
        for name, k, ev, similarity in (("a", 4, 0.8, 0.36), ("b", 8, 0.9, 0.6))
    }
    axes = {
        "k": [{"value": 4, "condition": "a"}, {"value": 8, "condition": "b"}],
        "d_sae": [{"value": 64, "condition": "b"}],
    }
    return {"architecture": "topk", "axes": axes, "conditions": conditions}


RESULTS = {
    "ablation": ablation_result,
    "eval": evaluation,
    "frontier": frontier_result,
    "phase4a": control_result,
    "stability": stability_result,
    "transcoder": transcoder_result,
    "scaling": scaling_result,
}


def write_study(folder, role, result, **changes):
    """A run folder with the result of a study and the files beside it that are none."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "schema": "trialplate-coder-study/1",
        "role": role,
        "run": "r",
        "subject": {"model": "m"},
        "config": {},
        "result": result,
    }
    (folder / "config.json").write_text("{}")
    (folder / "manifest.json").write_text(json.dumps({"schema": "trialplate-coder-manifest/1"}))
    path = folder / f"{role}.json"
    path.write_text(json.dumps({**about, **changes}))
    return path


def write_curves(folder, n=4, held_out=True, **said):
    """A coder's folder: EV rises by 0.2 a line, and lies 0.05 lower on held-out rows than on the last batch."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        {"step": 2 * i, "tokens": 20 * i, "loss": 100 / i, "ev": 0.2 * i, "l0": 8.0, "dead_frac": 0.0, "k": 8} for i in range(1, n + 1)
    ]  # fmt: skip
    (folder / "metrics.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if held_out:
        numbers = {"ev": 0.2 * n - 0.05, "l0": 8.0, "dead_frac": 0.1, "ev_definition": "about_mean"}
        (folder / "training.json").write_text(
            json.dumps({"schema": "trialplate-training/1", "held_out": numbers, **said})
        )
    return folder / "metrics.ndjson"
