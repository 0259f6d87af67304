"""Does the margin follow routing or the residual stream? Two experiments as they were published, and the corrections that they need.

`parity`: at one layer, routing is forced at the last token to a point of a three-dimensional subspace, and in the other arm the block's
output is moved in such a subspace; both along their own gradient. `frozen`: the block's output is moved while routing is held.

What is wrong with them, and what is done about it here:
1. Holding the routing of the layer whose *output* is moved holds nothing that is still to come. `frozen="downstream"` holds this layer and
   all above it, and asks the residual stream what is left; `frozen="layer"` is the published form.
2. Forcing routing at eps = 0 already replaces the heads' own weights, so the margin jumps, and a slope through the unforced baseline is the
   jump over eps. `corrected` slopes subtract the forced margin at eps = 0.
3. One unit of eps is not the same in K read logits and in C channels. `relative` divides a slope by what one unit is: its length over the
   mean length of what is moved.
4. The published direction of `frozen` displaces by x0 + e and x0 - e, where x0 is the centroid of the points in their own coordinates. That
   is far from the baseline where coordinates are not measured from the mean. Here they are, x0 is 0, and the published numbers agree.

Shapes and `model` as in `paris_margin.py`."""

import torch
from building_blocks.paris_margin import (
    STEP,
    forced,
    last_valid,
    late_positions,
    margins,
    mean_read_logits,
    pca,
    points_at,
)

EPS = (0.0, 0.01, 0.02, 0.04, 0.08)


def late_means(x, attention_mask):
    """[B, width]: the mean of each prompt's late window, the first token left out."""
    positions = late_positions(attention_mask, first=1)
    rows = [[x[b, t] for b, t in positions if b == row] for row in range(len(x))]
    return torch.stack([torch.stack(row).mean(0) for row in rows])


def moved(displacements, attention_mask):
    """A function for `after_block`: row b of displacements [B, C] is added at the last valid token of row b."""
    ends = last_valid(attention_mask).tolist()

    def after(x):
        x = x.clone()
        for b, t in enumerate(ends):
            x[b, t] = x[b, t] + displacements[b]
        return x

    return after


def held(infos, layers):
    """Layer controls that give layers the read weights which they had."""
    return {layer: {"routing_override": infos[layer]["read_weights"]} for layer in layers}


def unit(g):
    """[3] of length 1."""
    return g / torch.linalg.vector_norm(g).clamp(min=1e-12)


def central_difference(margin_of, base):
    """Mean over prompts of per-prompt central differences in three coordinates around base [B, 3]."""
    found = []
    for i in range(3):
        e = torch.zeros_like(base[0])
        e[i] = STEP
        found.append(((margin_of(base + e) - margin_of(base - e)) / (2 * STEP)).mean())
    return torch.stack(found)


def slope_through_origin(eps, changes):
    """Least squares on the first three points; changes [n]."""
    eps, changes = changes.new_tensor(eps[:3]), changes[:3]
    return (eps * changes).sum() / (eps * eps).sum()


def parity(model, input_ids, attention_mask, target_id, rival_id, layer):
    """Both arms at one layer: curves of the mean margin over eps, slopes as published, corrected, and per relative size."""
    logits, infos = model(input_ids, attention_mask=attention_mask)
    positions = late_positions(attention_mask, first=1)
    ends = list(enumerate(last_valid(attention_mask).tolist()))
    z, x = mean_read_logits(infos, layer), infos[layer]["block_output"]
    base = margins(logits, attention_mask, target_id, rival_id).mean()

    routing = pca(points_at(z, positions), 3)
    start = (late_means(z, attention_mask) - routing.mean) @ routing.components.T

    def forced_margin(coordinates):
        rows = torch.softmax(routing.mean + coordinates @ routing.components, dim=-1)
        control = {layer: {"routing_override": forced(dict(zip(ends, rows, strict=True)))}}
        some_logits, _ = model(input_ids, attention_mask=attention_mask, layer_controls=control)
        return margins(some_logits, attention_mask, target_id, rival_id)

    residual = pca(points_at(x, positions), 3)
    origin = x.new_zeros(len(x), 3)

    def moved_margin(coordinates):
        after = {layer: moved(coordinates @ residual.components, attention_mask)}
        some_logits, _ = model(input_ids, attention_mask=attention_mask, after_block=after)
        return margins(some_logits, attention_mask, target_id, rival_id)

    g_routing = unit(central_difference(forced_margin, start))
    g_residual = unit(central_difference(moved_margin, origin))
    curve_routing = torch.stack([forced_margin(start + eps * g_routing).mean() for eps in EPS])
    curve_residual = torch.stack([moved_margin(origin + eps * g_residual).mean() for eps in EPS])
    corrected_routing = slope_through_origin(EPS, curve_routing - curve_routing[0])
    corrected_residual = slope_through_origin(EPS, curve_residual - curve_residual[0])
    sizes = [torch.linalg.vector_norm(points_at(what, ends), dim=-1).mean() for what in (z, x)]
    return {
        "base": base,
        "evr_routing": routing.shares,
        "evr_residual": residual.shares,
        "eps": EPS,
        "routing_mean": curve_routing,
        "residual_mean": curve_residual,
        "slope_routing": slope_through_origin(EPS, curve_routing - base),
        "slope_residual": slope_through_origin(EPS, curve_residual - base),
        "corrected_slope_routing": corrected_routing,
        "corrected_slope_residual": corrected_residual,
        "relative_slope_routing": corrected_routing * sizes[0],
        "relative_slope_residual": corrected_residual * sizes[1],
    }


def frozen_residual(model, input_ids, attention_mask, target_id, rival_id, layer, *, frozen="layer"):
    """The residual arm at one layer while routing is held: shares of variance, curve over eps, slope of its first step."""
    if frozen not in ("none", "layer", "downstream"):
        raise ValueError(f"frozen: wanted none, layer or downstream, got {frozen!r}")
    logits, infos = model(input_ids, attention_mask=attention_mask)
    layers = {"none": (), "layer": (layer,), "downstream": range(layer, len(infos))}[frozen]
    x = infos[layer]["block_output"]
    residual = pca(points_at(x, late_positions(attention_mask, first=1)), 3)
    origin = x.new_zeros(len(x), 3)

    def margin_of(coordinates):
        some_logits, _ = model(
            input_ids,
            attention_mask=attention_mask,
            layer_controls=held(infos, layers),
            after_block={layer: moved(coordinates @ residual.components, attention_mask)},
        )
        return margins(some_logits, attention_mask, target_id, rival_id)

    g = central_difference(margin_of, origin)
    curve = torch.stack([margin_of(origin + eps * unit(g)).mean() for eps in EPS])
    return {
        "base": margins(logits, attention_mask, target_id, rival_id).mean(),
        "evr": residual.shares,
        "g_norm": torch.linalg.vector_norm(g),
        "eps": EPS,
        "margins": curve,
        "slope0": (curve[1] - curve[0]) / (EPS[1] - EPS[0]),
    }
