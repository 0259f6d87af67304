"""The picture of a Paris-margin probe, drawn from its document: the margins, what moves them at each layer, and the null beside both."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours: told apart by colour-blind readers and in grey.
ROUTING, RESIDUAL, CONTROL, OTHER = "#0072B2", "#D55E00", "#8A8A8A", "#56B4E9"
ARMS = {"routing": (ROUTING, "o", -0.12), "residual": (RESIDUAL, "s", 0.12)}
NORMS = {
    "relative_norm": "relative norm",
    "late_window_sd": "late-window standard deviation",
    "output_kl": "√(2 KL) of the next token",
}
MATCHES = {
    "relative_norm": ("relative norm", "o"),
    "late_window_sd": ("late-window deviation", "^"),
    "output_kl": ("output KL", "D"),
}
LEAST_SHARE = 1e-4
TICKS = ["≤ 0.01 %", "0.1 %", "1 %", "10 %", "50 %", "90 %", "99 %", "99.9 %"]
DPI = 150


def paris_margin_png(document: Mapping[str, Any]) -> bytes:
    """The figure of a probe document (see `routing.results`) as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    prompts = document["prompts"]
    figure = Figure(figsize=(12, max(6.0, 2.6 + 0.24 * len(prompts))), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, width_ratios=[1.0, 1.15])
    _margins(figure.add_subplot(grid[:, 0]), document)
    slopes = figure.add_subplot(grid[0, 1])
    _slopes(slopes, document)
    _share(figure.add_subplot(grid[1, 1], sharex=slopes), document)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8.5)
    _title(figure, document)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _title(figure: Figure, document: Mapping[str, Any]) -> None:
    figure.suptitle("\n".join(textwrap.wrap(document["finding"], 100)), fontsize=13, fontweight="bold")


def _margins(axes: Axes, document: Mapping[str, Any]) -> None:
    prompts = document["prompts"]
    colours = [CONTROL if prompt["role"] == "control" else ROUTING for prompt in prompts]
    places = list(range(len(prompts)))
    axes.barh(places, [prompt["margin"] for prompt in prompts], color=colours)
    axes.set_yticks(places, [_short(prompt["text"]) for prompt in prompts], fontsize=7.5)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.axvline(0, color="black", linewidth=0.8)
    for role, colour in (("target", ROUTING), ("control", CONTROL)):
        estimate = document["estimates"][role]
        if estimate is None:
            continue
        label = f"mean of {estimate['n']} {role} prompts: {estimate['value']:+.2f}"
        axes.axvline(estimate["value"], color=colour, linestyle="--", linewidth=1.2, label=label)
        if estimate["ci"]:
            axes.axvspan(*estimate["ci"], color=colour, alpha=0.12, linewidth=0)
    axes.set_xlabel(f"margin: logit of {document['target']['text']!r} − logit of {document['rival']['text']!r}")
    axes.set_title("Margin of each prompt (shaded: mean, 95 %)", fontsize=10, loc="left")


def _slopes(axes: Axes, document: Mapping[str, Any]) -> None:
    layers, null = document["layers"], document["null"]
    for arm, (colour, marker, shift) in ARMS.items():
        estimates = [layer["corrected"][arm] for layer in layers]
        _points(axes, estimates, colour, marker, shift, _arm_label(arm, document))
        if null is not None:
            _null_band(axes, layers, null, arm, colour, shift)
    if document["settings"]["comparison"]["frozen"] != "none":
        free = [layer["corrected"]["residual_free"]["value"] for layer in layers]
        axes.plot(
            [index + 0.3 for index in range(len(layers))],
            free,
            "x",
            color=RESIDUAL,
            markersize=5,
            label="residual, nothing frozen",
        )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylabel(f"slope (logits per\nunit of {NORMS[document['settings']['comparison']['match']]})", fontsize=9)
    axes.set_title("What moves the margin (95 % over target prompts)", fontsize=10, loc="left")
    axes.tick_params(labelbottom=False)


def _share(axes: Axes, document: Mapping[str, Any]) -> None:
    layers, null = document["layers"], document["null"]
    chosen = document["settings"]["comparison"]["match"]
    for place, (match, (name, marker)) in enumerate(MATCHES.items()):
        shares = [layer["corrected"]["routing_share_by_match"].get(match) for layer in layers]
        colour = ROUTING if match == chosen else OTHER
        _points(
            axes, [_inside(share) for share in shares], colour, marker, 0.2 * (place - 1), f"share, matched by {name}"
        )
        if null is not None and match == chosen:
            label = f"share in {len(null['seeds'])} random models, 95 % (same match)"
            _null_band(axes, layers, null, "routing_share", CONTROL, 0.2 * (place - 1), label)
    axes.axhline(0.5, color="black", linewidth=0.8, linestyle=":")
    axes.set_yscale("logit")
    axes.set_ylim(LEAST_SHARE / 1.5, 1 - LEAST_SHARE / 1.5)
    axes.set_yticks([0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999], TICKS)
    axes.minorticks_off()
    axes.set_ylabel("routing / (routing + residual)", fontsize=9)
    axes.set_xticks(range(len(layers)), [str(layer["layer"]) for layer in layers])
    axes.set_xlim(-0.6, len(layers) - 0.4)
    axes.set_xlabel("layer")
    axes.set_title("Share of routing in the two slopes", fontsize=10, loc="left")


def _inside(estimate: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """An estimate of a share moved off the ends of the logit scale, which has no place for 0 and 1."""
    if estimate is None:
        return None
    ends = estimate["ci"] or [estimate["value"]] * 2
    return {"value": _clipped(estimate["value"]), "ci": [_clipped(end) for end in ends]}


def _clipped(share: float) -> float:
    return min(max(share, LEAST_SHARE), 1 - LEAST_SHARE)


def _points(
    axes: Axes, estimates: Sequence[Mapping[str, Any] | None], colour: str, marker: str, shift: float, label: str | None
) -> None:
    known = [(index + shift, estimate) for index, estimate in enumerate(estimates) if estimate is not None]
    places, values = [place for place, _ in known], [estimate["value"] for _, estimate in known]
    ends = [estimate["ci"] or [estimate["value"]] * 2 for _, estimate in known]
    # A percentile interval can lie to one side of its estimate; lengths of bars cannot be negative.
    below = [max(0.0, value - low) for value, (low, _) in zip(values, ends, strict=True)]
    above = [max(0.0, high - value) for value, (_, high) in zip(values, ends, strict=True)]
    axes.errorbar(places, values, yerr=[below, above], fmt=marker, color=colour, capsize=3, markersize=6, label=label)


def _null_band(
    axes: Axes,
    layers: Sequence[Mapping[str, Any]],
    null: Mapping[str, Any],
    quantity: str,
    colour: str,
    shift: float,
    label: str | None = None,
) -> None:
    for index, layer in enumerate(layers):
        band = null["bands"][str(layer["layer"])][quantity]
        clip = _clipped if quantity == "routing_share" else float
        axes.fill_between(
            [index + shift - 0.1, index + shift + 0.1],
            clip(band["low"]),
            clip(band["high"]),
            color=colour,
            alpha=0.3,
            linewidth=2,  # a band that is thin on this scale stays visible
            label=(label or f"{quantity} in random models, 95 %") if index == 0 else None,
        )


def _arm_label(arm: str, document: Mapping[str, Any]) -> str:
    frozen = {
        "downstream": "routing frozen from here on",
        "layer": "routing of this layer frozen",
        "none": "nothing frozen",
    }
    return arm if arm == "routing" else f"residual, {frozen[document['settings']['comparison']['frozen']]}"


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 46 else f"{flat[:22].rstrip()} … {flat[-21:].lstrip()}"
