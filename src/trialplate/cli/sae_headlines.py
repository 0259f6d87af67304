"""The table that each command about coders ends with: the numbers that answer its question, each beside what chance shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trialplate.cli.headlines import Headline
from trialplate.cli.sae_runs import cell

Result = Mapping[str, Any]


def ablated(result: Result) -> Headline:
    """A row a value of each axis."""
    rows = [
        [f"{axis} {one['value']}", *_measured(result["conditions"][one["condition"]])]
        for axis, values in result["axes"].items()
        for one in values
    ]
    missing = (f"{result['n_missing']} coders are missing",) if result["n_missing"] else ()
    return Headline(
        "Ablations, over seeds", ("condition", "EV", "L0", "similarity", "chance", "above chance"), rows, missing
    )


def calibrated(result: Result) -> Headline:
    """A row a k of the search, and the confirmation."""
    confirm = [] if result["confirm"] is None else [result["confirm"]]
    rows = [
        [f"{one['k']}{' again' if one in confirm else ''}", *_measured(one), result["refused"].get(str(one["k"]), "")]
        for one in [*result["search"], *confirm]
    ]
    chosen = "no k" if result["selected_k"] is None else f"k = {result['selected_k']}"
    title = f"Calibration of L0: {result['status']}, {chosen}"
    columns = ("k", "EV", "L0", "similarity", "chance", "above chance", "refused because")
    return Headline(title, columns, rows, tuple(result["warnings"]))


def assigned(result: Result) -> Headline:
    """A row a strength."""
    rows = [
        [
            f"{one['lambda']:g}",
            cell(one["between_families"]["adjusted"]),
            cell(one["gain"]),
            cell(one["alignment"]),
            cell(one["ev"]),
            "; ".join(one["reasons"]),
        ]
        for one in result["strengths"]
    ]
    best = "" if result["best_lambda"] is None else f", lambda {result['best_lambda']:g}"
    columns = ("lambda", "between families", "gain", "to the reference", "EV", "refused because")
    return Headline(f"Assignment: {result['status'].replace('_', ' ')}{best}", columns, rows)


def on_frontier(result: Result) -> Headline:
    """A row an architecture and target."""
    from trialplate.sae.programs.frontier import verdicts

    rows = [[f"{one['architecture']} at {one['target']:g}", *_measured(one), one["status"]] for one in result["cells"]]
    best = [f"at {target}: {verdict}" for target, verdict in verdicts(result).items()]
    columns = ("coder", "EV", "L0", "similarity", "chance", "above chance", "L0 is")
    return Headline(f"Architectures, L0 within {result['tolerance']:.0%} of the target", columns, rows, best)


def scaled(result: Result) -> Headline:
    """A row a fitted slope, or why there is none."""
    rows = []
    for axis, values in result["slopes"].items():
        other = {"budget": "d_sae", "d_sae": "budget"}[axis]
        for one in values:
            lacks = f"lacks {', '.join(one['lacks'][:2])}" if one["lacks"] else "one size only"
            slope = cell(one["fit"]["slope"]) if one["fit"] else lacks
            rows.append([axis, one["site"], f"{other} {one[other]}", slope])
    missing = tuple(
        f"missing: {one['site']}, {one['budget']} tokens, width {one['d_sae']}: {next(iter(one['missing'].values()))}"
        for one in result["cells"]
        if one["missing"]
    )
    return Headline("Slopes of log(1 - EV), over seeds", ("over the log of", "site", "at", "slope"), rows, missing)


def controlled(result: Result) -> Headline:
    """A row an arm."""
    from trialplate.sae.programs.control import GAINS, concluded

    rows = [
        [
            name,
            cell(arm["raw"]),
            cell(arm["chance"]["value"]),
            cell(arm["adjusted"]),
            cell(result[GAINS[name]]) if name in GAINS else "",
        ]
        for name in ("trained", *GAINS)
        if (arm := result[name]) is not None
    ]
    columns = ("coders", "similarity", "chance", "above chance", "gain of the trained")
    conclusion, _, why = concluded(result).partition(": ")
    return Headline(f"Trained against controls: {conclusion}", columns, rows, (f"{conclusion}: {why}",))


def stable(result: Result) -> Headline:
    """A row a statistic."""
    rows = [
        [name, cell(one["raw"]), cell(one["chance"]), cell(one["adjusted"]), str(one["n_seeds"])]
        for name, one in result["statistics"].items()
    ]
    columns = ("similarity of decoders", "over seeds", "chance", "above chance", "seeds")
    return Headline(f"Stability of {result['n_coders']} coders, {' x '.join(map(str, result['shape']))}", columns, rows)


def transcoded(result: Result) -> Headline:
    """A row a condition and kind."""
    rows = [
        [f"{one['key'][:8]} {kind}", *_measured(one[kind]), cell(one["delta_widened"]) if kind == "transcoder" else ""]
        for one in result["conditions"]
        for kind in ("transcoder", "autoencoder")
    ]
    met = "met" if result["floors_met"] else "NOT met"
    notes = (f"difference {cell(result['delta'])}: {result['rule']}. Floors of explained variance {met}.",)
    columns = ("coders", "EV", "L0", "similarity", "chance", "above chance", "difference")
    return Headline("Transcoders against autoencoders, over seeds", columns, rows, notes)


def shifted(result: Result) -> Headline:
    """A row an arm."""
    rows = [
        [name, str(arm["k"]), cell(arm["source"]), cell(arm["target"]), cell(arm["drop"])]
        for name, arm in result["arms"].items()
    ]
    met = "met" if result["floors_met"] else "NOT met"
    notes = (
        f"drop beyond that of the activations {cell(result['excess_drop'])}; floors of accuracy {met}",
        f"accuracy beyond that of a random coder: source {cell(result['beyond_random_source'])}, target {cell(result['beyond_random_target'])}",
    )
    columns = ("probe of", "columns", "source", "target", "drop")
    return Headline(f"Shift of texts: {result['shift']['name']}, {result['shift']['question']}", columns, rows, notes)


def recovered(result: Result) -> Headline:
    """What controls, embedding and coders show."""
    controls, circuit = result["controls"], result["embedding"]
    rows = [
        ["planted frequencies found", cell(controls["fourier"]["share"]), cell(controls["fourier"]["null_of_random"])],
        [
            "planted features found, F1 at 0.9",
            cell(controls["dictionary"]["f1"]),
            cell(controls["dictionary"]["f1_of_random"]),
        ],
        ["variance at few frequencies", cell(circuit["share"]), cell(circuit["null_mean"])],
        ["latents within the circuit, above chance", cell(result["overlap"]), cell(0.0)],
        ["planes that can be written", cell(result["recall"]), cell(result["recall_of_random"])],
    ]
    title = f"A known circuit: {result['status']}, {result['n_evaluated']} different coders of {result['n_given']}"
    return Headline(title, ("", "found", "by chance"), rows, tuple(result["why"]))


def run_officially(result: Result) -> Headline:
    """A row a command."""
    rows = [
        [
            one["name"],
            one["status"],
            "" if one["returncode"] is None else str(one["returncode"]),
            cell(one["seconds"]),
            one["note"],
        ]
        for one in result["commands"]
    ]
    return Headline(f"Official packages: {result['status']}", ("command", "status", "code", "seconds", ""), rows)


def _measured(one: Mapping[str, Any]) -> list[str]:
    """EV, L0, and stability with its chance; or the first reason why they are missing."""
    if one["status"] == "missing":
        seed, reason = next(iter(one["missing"].items()))
        return [f"missing: seed {seed}: {reason}", "", "", "", ""]
    found = one["stability"]
    return [cell(one["ev"]), cell(one["l0"]), *(cell(found[name]) for name in ("raw", "chance", "adjusted"))]
