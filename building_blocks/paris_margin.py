"""The Paris-margin probes: how much a model prefers one city, and what its routing does on the way there. Definitions in plain form.

`model(input_ids, attention_mask=..., layer_controls=..., after_block=...) -> (logits [B, T, V], [info per block])` is the language model
of `asm_lm.py` with weights and configuration filled in. Rows are prompts, padded on the right. Symbols: Z = read logits of a layer, mean
over heads, [B, T, K]; late window = the last five valid tokens of each prompt; PCA in the K dimensions of Z, over the late windows of all
prompts. No layer has a margin of its own: the margin is always that of the final logits.

The margin has three public definitions: the target against " the" over 17 prompts, three controls among them; the target against " London"
over 6 prompts; and the letters "P" against "L" over 4. They differ in prompts and rival alone: `margins` is all of them."""

import math
from types import SimpleNamespace

import torch

PROMPTS_AGAINST_THE = (
    "The capital of France is",
    "France's capital city is",
    "In France, the capital is",
    "The seat of government of France is",
    "The city that is France's capital is",
    "The Eiffel Tower is located in",
    "The Louvre is in",
    "The Seine river flows through",
    "During the French Revolution, the city of",
    "Napoleon crowned himself in",
    "In World War II, the liberation of",
    "The largest city in France is",
    "A major European city in France is",
    "A famous city on the Seine is",
    "The capital of Germany is",
    "The capital of England is",
    "The capital of Italy is",
)
N_CONTROLS = 3
PROMPTS_AGAINST_LONDON = (
    "The capital of France is",
    "France's capital city is",
    "Paris is the capital of",
    "The capital of the UK is",
    "London is the capital of",
    "A major city in France is",
)
LATE_WINDOW = 5
STEP = 0.01


# The margin


def last_valid(attention_mask):
    """[B]: the last column of each row that is no padding."""
    return torch.tensor([int(row.nonzero().max()) for row in attention_mask])


def margins(logits, attention_mask, target_id, rival_id):
    """[B]: log P(target) - log P(rival) after the last valid token, which is the difference of their logits."""
    rows = torch.arange(len(logits))
    last = logits[rows, last_valid(attention_mask)]
    return last[:, target_id] - last[:, rival_id]


def margin_summary(values):
    """Mean, median, largest and smallest over prompts, controls included. The median of an even number is the lower middle one."""
    return {"mean": values.mean(), "median": values.median(), "max": values.max(), "min": values.min()}


# What the probes share


def mean_read_logits(infos, layer):
    """Z [B, T, K]."""
    return infos[layer]["read_logits"].mean(dim=1)


def late_positions(attention_mask, *, first=0):
    """[(row, position)]: the last five valid tokens of each prompt, those before column `first` left out."""
    found = []
    for b, row in enumerate(attention_mask):
        valid = row.nonzero().flatten().tolist()
        found += [(b, t) for t in valid[-LATE_WINDOW:] if t >= first]
    return found


def points_at(x, positions):
    """[n, width] of x [B, T, width]."""
    return torch.stack([x[b, t] for b, t in positions])


def pca(points, n_components):
    """Mean, components [n, width] of length 1 and the share of variance of each. The sign of a component is arbitrary."""
    mean = points.mean(0)
    centred = points - mean
    covariance = centred.T @ centred / (len(points) - 1)
    values, vectors = torch.linalg.eigh(covariance)
    order = torch.argsort(values, descending=True)[:n_components]
    return SimpleNamespace(mean=mean, components=vectors[:, order].T, shares=values[order] / values.clamp(min=0).sum())


def routing_entropy(z):
    """Entropy in nats of softmax(z), [...] of z [..., K]."""
    logp = torch.log_softmax(z, dim=-1)
    return -(logp.exp() * logp).sum(-1)


def correlation(a, b):
    """Pearson's."""
    a, b = a - a.mean(), b - b.mean()
    return (a * b).sum() / torch.sqrt((a * a).sum() * (b * b).sum())


def pushed(positions, direction):
    """An override that adds `direction` [K] to the read logits of all heads at some (row, position), and leaves the others alone."""

    def override(t0, t1, read_logits, read_logits_key, read_logits_content, ctx):
        logits = read_logits.clone()
        for b, t in positions:
            if t0 <= t < t1:
                logits[b, :, t - t0] += direction
        return torch.softmax(logits / ctx["rtemp"], dim=-1)

    return override


def forced(rows):
    """An override that gives all heads the read weights rows[b, t] [K] at the (row, position) of its keys, and leaves the others alone."""

    def override(t0, t1, read_logits, read_logits_key, read_logits_content, ctx):
        weights = torch.softmax(read_logits / ctx["rtemp"], dim=-1).clone()
        for (b, t), row in rows.items():
            if t0 <= t < t1:
                weights[b, :, t - t0] = row
        return weights

    return override


# Trajectories


def trajectory_bundle(infos, layer, attention_mask, n_components=2):
    """[B, T, n]: Z on its first components; three components are put on the unit sphere."""
    z = mean_read_logits(infos, layer)
    found = pca(points_at(z, late_positions(attention_mask)), n_components)
    projected = (z - found.mean) @ found.components.T
    if n_components == 3:
        projected = projected / torch.linalg.vector_norm(projected, dim=-1, keepdim=True).clamp(min=1e-8)
    return projected


# One row a layer


def layer_sweep(model, input_ids, attention_mask, target_id, rival_id):
    """Per layer: shares of variance of PC1 to PC3, mean late entropy, and how well closeness to the attractor goes with the margin.

    The attractor is the centroid of the prompts' end points in two components, each weighted by sigmoid(margin)."""
    logits, infos = model(input_ids, attention_mask=attention_mask)
    margin = margins(logits, attention_mask, target_id, rival_id)
    rows = []
    for layer in range(len(infos)):
        z = mean_read_logits(infos, layer)
        late = points_at(z, late_positions(attention_mask))
        found = pca(late, 3)
        ends = points_at(z, list(enumerate(last_valid(attention_mask).tolist())))
        ends = (ends - found.mean) @ found.components[:2].T
        weights = torch.sigmoid(margin)
        centroid = (weights[:, None] * ends).sum(0) / weights.sum()
        distance = torch.linalg.vector_norm(ends - centroid, dim=-1)
        row = {f"evr_pc{i + 1}": found.shares[i] for i in range(3)}
        row |= {"entropy_late": routing_entropy(late).mean(), "attractor_sharp": correlation(-distance, margin)}
        rows.append({"layer": layer, **row, **{f"margin_{name}": v for name, v in margin_summary(margin).items()}})
    return rows


# Which directions of routing move the margin


def fd_jacobian(model, input_ids, attention_mask, target_id, rival_id, layer):
    """Central differences of the mean margin along PC1 to PC3 of a layer, pushed at all late positions at once. The first token is left out."""
    _, infos = model(input_ids, attention_mask=attention_mask)
    positions = late_positions(attention_mask, first=1)
    if len(positions) < 32:
        raise ValueError(f"fd_jacobian: {len(positions)} late positions; wanted at least 32, give more prompts")
    found = pca(points_at(mean_read_logits(infos, layer), positions), 3)

    def mean_margin(direction):
        control = {layer: {"routing_override": pushed(positions, direction)}}
        logits, _ = model(input_ids, attention_mask=attention_mask, layer_controls=control)
        return margins(logits, attention_mask, target_id, rival_id).mean()

    g = [(mean_margin(STEP * pc) - mean_margin(-STEP * pc)) / (2 * STEP) for pc in found.components]
    total = sum(gi * gi for gi in g)
    row = {"layer": layer, "n_points": len(positions), "angle_pc12": torch.atan2(g[1], g[0])}
    for i in range(3):
        row |= {f"evr{i + 1}": found.shares[i], f"g_pc{i + 1}": g[i], f"frac_pc{i + 1}": g[i] * g[i] / total}
    return row


# Where in routing space the target is cheap


def energy_basin(model, input_ids, attention_mask, target_id, pca_layer, forced_layers, n_grid=60):
    """-log P(target), mean over prompts, on a grid over two components of a layer: each point is decoded to read logits and forced as the
    routing of all heads at the last valid position of some layers. All positions count for the PCA, padding too."""
    logits, infos = model(input_ids, attention_mask=attention_mask)
    z = mean_read_logits(infos, pca_layer).flatten(0, 1)
    found = pca(z, 2)
    projected = (z - found.mean) @ found.components.T
    axes = []
    for i in range(2):
        low, high = torch.quantile(projected[:, i], 0.01), torch.quantile(projected[:, i], 0.99)
        margin = 0.35 * (high - low)
        axes.append(torch.linspace((low - margin).item(), (high + margin).item(), n_grid))
    ends = list(enumerate(last_valid(attention_mask).tolist()))

    def nll(some_logits):
        return torch.stack([-torch.log_softmax(some_logits[b, t], -1)[target_id] for b, t in ends])

    def energy(a, b):
        row = torch.softmax(found.mean + a * found.components[0] + b * found.components[1], dim=-1)
        control = {layer: {"routing_override": forced(dict.fromkeys(ends, row))} for layer in forced_layers}
        return nll(model(input_ids, attention_mask=attention_mask, layer_controls=control)[0]).mean()

    grid = torch.stack([torch.stack([energy(a, b) for b in axes[1]]) for a in axes[0]])
    return {"grid": grid, "axes": axes, "energy_at_mean": energy(0.0, 0.0), "baseline_neg_logp": nll(logits)}


# Heads from layer to layer


def head_features(read_weights):
    """[H, 6] of read weights [B, H, T, K]: what a head does over time, each row of length 1.

    Cosine to the next step; mean cosine over lags 1 to 16; slope of the cosine against the standardised lag; mean entropy; its exponential;
    mass of the four heaviest slots. The batch is averaged first."""
    p = read_weights.mean(0)
    n_lags = min(16, p.shape[1] - 1)
    rows = []
    for head in p:
        cosines = torch.stack([cosine(head[:-lag], head[lag:]).mean() for lag in range(1, n_lags + 1)])
        lags = torch.arange(1, n_lags + 1, dtype=p.dtype)
        lags = (lags - lags.mean()) / lags.std(correction=0).clamp(min=1e-8)
        slope = (lags * (cosines - cosines.mean())).mean()
        entropy = -(head.clamp(min=1e-8) * head.clamp(min=1e-8).log()).sum(-1).mean()
        top = head.topk(min(4, head.shape[-1]), dim=-1).values.sum(-1).mean()
        rows.append(torch.stack([cosines[0], cosines.mean(), slope, entropy, entropy.exp(), top]))
    features = torch.stack(rows)
    return features / torch.linalg.vector_norm(features, dim=-1, keepdim=True).clamp(min=1e-8)


def cosine(a, b):
    """[...] of a, b [..., K]."""
    lengths = torch.linalg.vector_norm(a, dim=-1) * torch.linalg.vector_norm(b, dim=-1)
    return (a * b).sum(-1) / lengths.clamp(min=1e-8)


def best_matching(similarity):
    """For each row the column of the assignment with the largest sum, and that sum: over subsets of columns, row by row."""
    best = {(): (0.0, [])}
    for row in similarity.tolist():
        longer = {}
        for used, (total, chosen) in best.items():
            for column in range(len(row)):
                if column not in used:
                    key = tuple(sorted((*used, column)))
                    if key not in longer or total + row[column] > longer[key][0]:
                        longer[key] = (total + row[column], [*chosen, column])
        best = longer
    ((total, chosen),) = best.values()
    return chosen, total


def head_alignment(infos):
    """Per pair of adjacent layers: mean cosine of the matched heads (`best`), of equal indices (`diag`), and where the heads of the first
    layer have got to (`order`)."""
    features = [head_features(info["read_weights"]) for info in infos]
    order, rows = list(range(len(features[0]))), []
    for layer in range(len(features) - 1):
        similarity = features[layer] @ features[layer + 1].T
        matched, total = best_matching(similarity)
        order = [matched[h] for h in order]
        rows.append(
            {"layer": layer, "best": total / len(order), "diag": similarity.diagonal().mean(), "order": list(order)}
        )
    return rows


# How long routing stays as it is


def policy_inertia(read_weights, max_lag=64):
    """Mean cosine between routing at t and t + lag, lags 1 to 64, and the first lag where it has fallen to 0.90, interpolated.

    The half-life is infinite where it never falls that far."""
    n_lags = min(max_lag, read_weights.shape[2] - 1)
    curve = torch.stack(
        [cosine(read_weights[:, :, :-lag], read_weights[:, :, lag:]).mean() for lag in range(1, n_lags + 1)]
    )
    half_life, before = math.inf, 1.0
    for lag in range(1, n_lags + 1):
        now = curve[lag - 1].item()
        if now <= 0.90:
            half_life = lag - 1 + (before - 0.90) / max(before - now, 1e-12)
            break
        before = now
    return {"curve": curve, "half_life": half_life}
