"""The page of a coder as HTML: one file without network, scripts of others or images, readable without its own script too.

Everything that comes from a model, a tokenizer or a file is escaped where it is written; there is no other way into the page than `_text`."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trialplate.metrics.firing_density import DensityHistogram
from trialplate.sae.dashboard_look import SCRIPT, SHADES, STYLE, policy

_VISIBLE = str.maketrans({"\n": "↵", "\r": "␍", "\t": "⇥"})
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 440, 230, 60, 46, 12
_OPEN = 3  # cards that are open when the page comes up: what a card is should be seen without asking
_SCROLLS = '<p class="hint">The table is wider than the screen: scroll it sideways →</p>'


@dataclass(frozen=True)
class Context:
    """A piece of text around a firing. tokens, values: as long as each other, a value None where no activation was read; peak: where the firing is."""

    value: float
    tokens: Sequence[str]
    values: Sequence[float | None]
    peak: int
    document: int
    position: int
    said: str = ""


@dataclass(frozen=True)
class Profile:
    """What the page shows of one latent. raised, lowered: (token, z), None where logits are not known; neighbours: (latent, cosine)."""

    latent: int
    why: str
    density: float
    mass_share: float
    most: float
    mean: float
    strongest: Sequence[Context]
    even: Sequence[Context]
    raised: Sequence[tuple[str, float]] | None
    lowered: Sequence[tuple[str, float]] | None
    neighbours: Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Scores:
    """A row of the table of scores: what, of the coder, of the random twin; as text."""

    name: str
    coder: str
    random: str
    meaning: str


@dataclass(frozen=True)
class Page:
    """All that a page says. facts: (name, value) of the header; notes: how what is shown was chosen."""

    title: str
    facts: Sequence[tuple[str, str]]
    scores: Sequence[Scores]
    densities: tuple[DensityHistogram, DensityHistogram]
    notes: Sequence[str]
    profiles: Sequence[Profile]
    dead: Sequence[int]
    n_dead: int
    chance_z: float | None
    chance_cosine: float


def render(page: Page) -> str:
    """The HTML text."""
    parts = [*_head(page), *_scores(page), *_density(page), *_table(page), *_details(page), *_dead(page)]
    return "\n".join([*parts, f"<script>{SCRIPT}</script>", "</body></html>", ""])


def _text(value: object) -> str:
    """A value as text of the page. What has no shape of its own is made visible, and characters that would turn the text around are not obeyed."""
    visible = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in str(value).translate(_VISIBLE))
    return html.escape(visible, quote=True)


def _head(page: Page) -> Iterator[str]:
    yield '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_text(policy())}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{_text(page.title)}</title><style>{STYLE}</style></head><body>"
    yield f"<h1>{_text(page.title)}</h1>"
    yield '<div><table class="facts"><tbody>'
    for name, value in page.facts:
        yield f'<tr><th scope="row">{_text(name)}</th><td class="text">{_text(value)}</td></tr>'
    yield "</tbody></table></div>"


def _scores(page: Page) -> Iterator[str]:
    yield "<h2>How well it does, beside a coder that learned nothing</h2>"
    yield _SCROLLS
    yield '<div class="wide" tabindex="0" role="region" aria-label="Scores"><table class="scores"><thead><tr><th scope="col">score</th><th scope="col">this coder</th>'
    yield '<th scope="col">random coder</th><th scope="col" class="text">what it says</th></tr></thead><tbody>'
    for one in page.scores:
        yield f'<tr><th scope="row">{_text(one.name)}</th><td>{_score(one.coder)}</td><td>{_score(one.random)}</td>'
        yield f'<td class="text">{_text(one.meaning)}</td></tr>'
    yield "</tbody></table></div>"
    yield '<p class="soft">In brackets: 95 % intervals over documents. The random coder is one of the same description, initialised and never trained,'
    yield " with as many active latents a token as this one.</p>"


def _score(text: str) -> str:
    """A number and its interval, each in one piece: a narrow screen breaks between them only."""
    number, bracket, ends = text.partition(" [")
    return f'<span class="whole">{_text(number)}</span>' + (
        f' <span class="whole">[{_text(ends)}</span>' if bracket else ""
    )


def _density(page: Page) -> Iterator[str]:
    own, other = page.densities
    n = int(own.counts.sum()) + own.dead
    yield "<h2>How often latents fire</h2><figure>"
    yield _histogram(own, other)
    yield f"<figcaption>Bars: the {n:,} latents of this coder. Black line: a random coder (never trained) of the same L0. Density is the share of tokens on which"
    yield f" a latent is not 0, on a logarithmic axis; {own.dead:,} never fired.</figcaption></figure>"


def _histogram(own: DensityHistogram, other: DensityHistogram) -> str:
    low, n_own = float(min(own.edges[0], other.edges[0])), int(own.counts.sum()) + own.dead
    n_other = int(other.counts.sum()) + other.dead
    most = max(own.counts.max() / n_own, other.counts.max() / n_other, own.dead / n_own, other.dead / n_other)
    step = next((s for s in (0.01, 0.02, 0.05, 0.1, 0.2) if most <= 5 * s), 0.25)
    n_steps = math.ceil(most / step - 1e-9)
    high = n_steps * step
    span = -low + 1.2  # decades, and room for the dead at the left

    def x(log10: float) -> float:
        return _LEFT + (log10 - low + 1.1) / span * (_WIDTH - _LEFT - 8)

    def y(share: float) -> float:
        return _HEIGHT - _BOTTOM - share / high * (_HEIGHT - _BOTTOM - _TOP)

    label = f"Histogram of firing densities: {own.dead} of {n_own} latents of this coder never fired"
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{_text(label)}">']
    for i in range(n_steps + 1):
        at = y(step * i)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 4}" y="{at + 4:.1f}" text-anchor="end">{100 * step * i:.0f} %</text>')
    for edge, end, count in zip(own.edges[:-1], own.edges[1:], own.counts, strict=True):
        if count:
            top = y(count / n_own)
            parts.append(
                f'<rect class="bar" x="{x(edge) + 0.5:.1f}" y="{top:.1f}" width="{x(end) - x(edge) - 1:.1f}" height="{y(0) - top:.1f}">'
                f"<title>latents: {count}, density {10**edge:.2g} to {10**end:.2g}</title></rect>"
            )
    points = [(x(other.edges[0]), y(0))]
    for edge, end, count in zip(other.edges[:-1], other.edges[1:], other.counts, strict=True):
        points += [(x(edge), y(count / n_other)), (x(end), y(count / n_other))]
    points.append((x(other.edges[-1]), y(0)))
    parts.append(f'<polyline class="null" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}"/>')
    left, right = x(low - 0.85), x(low - 0.35)
    parts.append(
        f'<rect class="dead" x="{left:.1f}" y="{y(own.dead / n_own):.1f}" width="{right - left:.1f}" height="{y(0) - y(own.dead / n_own):.1f}"/>'
    )
    parts.append(
        f'<line class="null" x1="{left:.1f}" x2="{right:.1f}" y1="{y(other.dead / n_other):.1f}" y2="{y(other.dead / n_other):.1f}"/>'
    )
    middle = (y(0) + _TOP) / 2
    parts.append(
        f'<text x="14" y="{middle:.1f}" text-anchor="middle" transform="rotate(-90 14 {middle:.1f})">share of latents</text>'
    )
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH}" y1="{y(0):.1f}" y2="{y(0):.1f}"/>')
    parts.append(f'<text x="{(left + right) / 2:.1f}" y="{y(0) + 16:.1f}" text-anchor="middle">never</text>')
    for decade in range(math.ceil(low), 1):
        name = "1" if decade == 0 else f"{10.0**decade:.{-decade}f}" if decade > -4 else f"1e{decade}"
        anchor = "end" if decade == 0 else "middle"
        parts.append(f'<text x="{x(decade):.1f}" y="{y(0) + 16:.1f}" text-anchor="{anchor}">{name}</text>')
    parts.append(
        f'<text x="{(_LEFT + _WIDTH) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">density: share of tokens (log)</text></svg>'
    )
    return "".join(parts)


_TEXT = ' class="text"'
_COLUMNS = (
    *(("latent", ""), ("shown for", _TEXT), ("density", ""), ("mass", ""), ("largest", ""), ("mean when on", "")),
    *(("raises most", _TEXT), ("nearest", "")),
)


def _table(page: Page) -> Iterator[str]:
    yield "<h2>Latents</h2>"
    for note in page.notes:
        yield f"<p>{_text(note)}</p>"
    yield '<p class="filter" id="filter" hidden><label>Filter by number or text: <input type="search"></label> <span id="count" role="status"></span></p>'
    yield '<p class="soft" id="columns">mass: share of the summed activations of all latents; nearest: cosine with the closest other latent,'
    yield f" {page.chance_cosine:.2f} for random directions of this shape.</p>"
    yield _SCROLLS
    yield '<div class="wide" tabindex="0" role="region" aria-label="Latents"><table id="latents" aria-describedby="columns"><thead><tr>'
    yield "".join(f'<th scope="col"{kind}>{name}</th>' for name, kind in _COLUMNS) + "</tr></thead><tbody>"
    for one in page.profiles:
        yield f'<tr id="row-{one.latent}">' + "".join(_cells(one)) + "</tr>"
    yield "</tbody></table></div>"


def _cells(one: Profile) -> Iterator[str]:
    yield f'<td data-key="{one.latent}"><a href="#latent-{one.latent}">{one.latent}</a></td>'
    yield f'<td class="text" data-key="{_text(one.why)}">{_text(one.why)}</td>'
    for value, shown in (
        (one.density, _percent(one.density)),
        (one.mass_share, _percent(one.mass_share)),
        (one.most, f"{one.most:.3g}"),
        (one.mean, f"{one.mean:.3g}"),
    ):
        yield f'<td data-key="{value:.9g}">{shown}</td>'
    token = one.raised[0][0] if one.raised else ""
    yield f'<td class="text" data-key="{_text(token)}">{_token(token) if token else "–"}</td>'
    nearest = one.neighbours[0][1] if one.neighbours else None
    yield '<td data-key="-2">–</td>' if nearest is None else f'<td data-key="{nearest:.6g}">{nearest:.2f}</td>'


def _details(page: Page) -> Iterator[str]:
    yield "<h2>Where they fire</h2>"
    yield "<p>The darker a token, the stronger the latent on it, from its largest activation down to 0 (values: point at a token, or tap it). The token that a line is"
    yield " about is bold and underlined, its activation at the left. ↵ is a line break.</p>"
    for number, one in enumerate(page.profiles):
        facts = f"{_percent(one.density)} of tokens, largest {one.most:.3g}; {one.why}"
        state = " open" if number < _OPEN else ""
        yield f'<details id="latent-{one.latent}"{state} data-latent="{one.latent}"><summary>Latent {one.latent} <span class="soft">{_text(facts)}</span></summary>'
        yield "<h3>Strongest, one a document</h3>"
        yield from _contexts(one.strongest, one.most)
        yield '<h3>Even sample of its firings, by strength <span class="soft">(in brackets: the share of its firings that are weaker)</span></h3>'
        yield from _contexts(one.even, one.most)
        yield from _directions(one, page)
        yield "</details>"


def _contexts(contexts: Sequence[Context], most: float) -> Iterator[str]:
    yield '<ol class="contexts">'
    for one in contexts:
        spans = []
        for i, (token, value) in enumerate(zip(one.tokens, one.values, strict=True)):
            level = 0 if not value or most <= 0 else min(SHADES, max(1, math.ceil(SHADES * abs(value) / most - 1e-9)))
            names = " ".join(n for n in (f"s{level}" if level else "", "peak" if i == one.peak else "") if n)
            kind = f' class="{names}"' if names else ""
            shown = "no activation read" if value is None else f"{value:.3g}"
            spans.append(f'<span{kind} title="{shown}">{_text(token)}</span>')
        said = f" {one.said}" if one.said else ""
        where = f"document {one.document}, token {one.position}"
        yield f'<li><span class="value" title="{where}">{one.value:.3g}{_text(said)}</span><span class="said">{"".join(spans)}</span></li>'
    yield "</ol>"


def _directions(one: Profile, page: Page) -> Iterator[str]:
    yield "<h3>Its direction</h3>"
    if one.raised is None or one.lowered is None:
        yield '<p class="soft">It writes a site that the unembedding does not read, so no logits are shown.</p>'
    else:
        for name, tokens in (("raises", one.raised), ("lowers", one.lowered)):
            yield f"<p>{name}: " + " ".join(f"{_token(token)}&nbsp;{z:+.1f}" for token, z in tokens) + "</p>"
        yield '<p class="soft">Logits by the direct path, W_dec · unembedding (later layers and the final norm left out), in standard deviations over the'
        yield f" vocabulary; the largest of a random direction is {page.chance_z:.1f} on average.</p>"
    shown = {profile.latent for profile in page.profiles}
    links = [f'<a href="#latent-{j}">{j}</a>' if j in shown else str(j) for j, _ in one.neighbours]
    names = [f"{link}&nbsp;({cosine:.2f})" for link, (_, cosine) in zip(links, one.neighbours, strict=True)]
    yield f"<p>nearest latents by cosine of decoder rows: {', '.join(names) or 'none, its row is zero'}"
    yield f' <span class="soft">(nearest of random directions: {page.chance_cosine:.2f})</span></p>'


def _dead(page: Page) -> Iterator[str]:
    yield f"<h2>{page.n_dead:,} latent{'' if page.n_dead == 1 else 's'} that never fired here</h2>"
    if not page.n_dead:
        yield "<p>None: every latent fired on at least one of these tokens.</p>"
        return
    more = f" and {page.n_dead - len(page.dead):,} more" if page.n_dead > len(page.dead) else ""
    yield f"<p>{', '.join(map(str, page.dead))}{more}</p>"


def _token(token: str) -> str:
    return f'<span class="token">{_text(token).replace(" ", "·")}</span>'


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %" if share >= 0.001 else f"{100 * share:.2g} %"
