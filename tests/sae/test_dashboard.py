"""The page of a coder: what it says is what the coder does, nothing in a token can act in it, and it needs nothing from outside."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from tests.activations.families import ids, tiny
from tests.sae.coders import random_coder

from trialplate.activations.capture import captured
from trialplate.activations.errors import CaptureError
from trialplate.activations.sites import resolve
from trialplate.metrics.firing_density import FiringDensity
from trialplate.sae.dashboard import DashboardOptions, dashboard, write_dashboard
from trialplate.sae.dashboard_look import SCRIPT, STYLE
from trialplate.sae.dashboard_page import Context, Page, Profile, Scores, render
from trialplate.sae.errors import CoderError
from trialplate.sae.latent_directions import neighbours, promoted, promoted_by_chance
from trialplate.sae.random_twin import random_twin

SITE = "L1.resid_post"
HOSTILE = '</span><script>alert(1)</script><img src=x onerror="alert(2)">'
SMALL = DashboardOptions(latents=6, contexts=2, width=3, tokens=4)


class Tags(HTMLParser):
    """The tags of a page with their attributes, what each kind of raw element holds, and all text."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.raw, self.text, self.inside = [], {"script": [], "style": []}, [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        self.raw.get(self.inside, self.text).append(data)


@pytest.fixture(scope="module")
def model():
    return tiny("gpt_neox")


@pytest.fixture(scope="module")
def documents():
    return [ids(1, n, seed=n)[0].tolist() for n in (9, 14, 17, 20, 20, 23)]


@pytest.fixture(scope="module")
def coder():
    return random_coder("topk", 32, 48, site_in=SITE, site_out=SITE)


@pytest.fixture(scope="module")
def page(model, documents, coder):
    return dashboard(coder, model, resolve(model, SITE), documents, options=SMALL)


def hostile_page(token=HOSTILE):
    histogram = FiringDensity(np.array([0, 1, 5]), 10).histogram()
    context = Context(2.0, ["a", token], [None, 2.0], 1, 0, 1, token)
    profile = Profile(1, token, 0.1, 0.5, 2.0, 2.0, [context], [context], [(token, 3.0)], [(token, -3.0)], [(2, 0.4)])
    return render(
        Page(token, [(token, token)], [Scores(token, token, token, token)], (histogram, histogram), [token], [profile], [0], 1, 3.0, 0.2)
    )  # fmt: skip


def test_tokens_cannot_bring_markup_into_the_page():
    found = Tags(hostile_page())
    assert [tag for tag, _ in found.tags if tag in ("img", "iframe", "object", "link")] == []
    assert found.raw == {"script": [SCRIPT], "style": [STYLE]}
    assert not [name for _, attrs in found.tags for name in attrs if name.startswith("on")]
    assert "".join(found.text).count("<script>alert(1)</script>") >= 8  # it is there, as text


def test_characters_that_turn_text_around_are_shown_and_not_obeyed():
    page = hostile_page("a\u202eb\n\x00")
    assert "\u202e" not in page
    assert "\x00" not in page
    assert "a\\u202eb↵\\u0000" in page


def test_the_page_runs_its_own_script_only_and_asks_nothing_of_a_network(page):
    found = Tags(page)
    policies = [attrs["content"] for tag, attrs in found.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none'")
    assert "unsafe" not in policies[0]
    assert not [attrs for _, attrs in found.tags if {"src", "srcset", "style"} & set(attrs)]
    assert {attrs["href"][0] for _, attrs in found.tags if "href" in attrs} == {"#"}
    assert "http" not in re.sub("http-equiv", "", page)


def test_links_lead_somewhere_and_names_are_there_once(page):
    found = Tags(page)
    names = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
    assert len(names) == len(set(names))
    assert {attrs["href"][1:] for _, attrs in found.tags if "href" in attrs} <= set(names)


def test_shades_have_contrast_and_more_than_colour():
    """Contrast of the ink on every shade, by WCAG 2: (L1 + 0.05) / (L2 + 0.05) of relative luminances, at least 7."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    ink = re.search(r"--ink: (#\w{6})", STYLE)[1]
    shades = re.findall(r"\.s\d \{ background: (#\w{6})", STYLE)
    assert len(shades) == 8
    assert min((luminance(shade) + 0.05) / (luminance(ink) + 0.05) for shade in shades) > 7
    assert re.search(r"\.peak \{[^}]*bold|\.peak \{[^}]*700", STYLE)
    assert "underline" in re.search(r"\.peak \{([^}]*)", STYLE)[1]


def test_what_is_shown_is_what_the_coder_does(model, documents, coder, page):
    point = resolve(model, SITE)
    codes = [coder.encode(captured(model, torch.tensor([text]), [point])[SITE][0]).dense() for text in documents]
    code = torch.cat(codes)
    mass = code.abs().sum(0)
    first = int(mass.argmax())
    row = re.search(rf'<tr id="row-{first}">(.*?)</tr>', page)[1]
    density, share, most, mean = (float(x) for x in re.findall(r'data-key="([^"]*)"', row)[2:6])
    assert density == pytest.approx(float((code[:, first] != 0).double().mean()))
    assert share == pytest.approx(float(mass[first] / mass.sum()), rel=1e-4)
    assert most == pytest.approx(float(code[:, first].max()), rel=1e-4)
    assert mean == pytest.approx(float(mass[first] / (code[:, first] != 0).sum()), rel=1e-4)
    details = re.search(rf'<details id="latent-{first}".*?</details>', page, re.DOTALL)[0]
    best = sorted((float(text[:, first].max()) for text in codes), reverse=True)[:2]
    values = [float(v) for v in re.findall(r'<span class="value"[^>]*>([\d.e+-]+)</span>', details)]
    assert values[:2] == pytest.approx(best, rel=6e-3)  # three digits, one firing a document


def test_half_of_the_latents_are_drawn_and_it_is_said(page):
    found = re.findall(r'<td class="text" data-key="(mass|sample)">', page)
    assert found == ["mass"] * 3 + ["sample"] * 3
    assert "3 drawn evenly from all others (seed 0)" in page


def test_the_coder_stands_beside_one_that_learned_nothing(page):
    text = " ".join("".join(Tags(page).text).split())
    assert "random coder" in text
    assert re.search(r"EV ?-?[\d.]+ \[-?[\d.]+, -?[\d.]+\] ?-?[\d.]+ \[", text)
    assert "the largest of a random direction is" in text


def test_the_first_three_cards_are_open(page):
    states = ["open" in attrs for tag, attrs in Tags(page).tags if tag == "details"]
    assert states == [True] * 3 + [False] * 3


def test_a_tap_shows_what_pointing_shows_and_wide_tables_say_that_they_scroll(page):
    """A screen without a pointer shows no titles: the script marks the token that was tapped, the style writes its title beside it."""
    assert 'classList.toggle("told")' in SCRIPT
    assert re.search(r"\.told::after \{ content: [^;]*attr\(title\)", STYLE)
    found = Tags(page)
    regions = [attrs for tag, attrs in found.tags if attrs.get("class") == "wide"]
    assert [attrs.get("tabindex") for attrs in regions] == ["0", "0"]
    assert page.count('class="hint"') == len(regions)
    assert re.search(r"@media \(max-width: 36rem\).*\.hint \{ display: block", STYLE, re.DOTALL)


def test_a_page_does_not_claim_that_its_texts_were_held_out(model, documents, page, monkeypatch):
    """A coder that says nothing of its training may have seen them; one that names these very rows has."""
    unknown = '<th scope="row">seen in training</th><td class="text">unknown: these texts may have been trained on</td>'
    assert unknown in page
    assert "held" not in page
    own, read = random_coder("topk", 32, 48, site_in=SITE, site_out=SITE), []
    monkeypatch.setattr(
        "trialplate.sae.dashboard.random_twin", lambda *given: read.append(given[1]) or random_twin(*given)
    )
    point = resolve(model, SITE)
    dashboard(own, model, point, documents, options=SMALL)
    own.config = own.config.with_(about={"training": {"rows": read[0].digest}})
    assert "yes: these are the rows" in dashboard(own, model, point, documents, options=SMALL)


def test_all_numbers_are_of_the_same_tokens_unless_a_sample_was_drawn(model, documents, coder, page):
    assert "All numbers are of the same 103 tokens." in page
    few = dashboard(coder, model, resolve(model, SITE), documents, options=replace(SMALL, max_rows=50))
    assert "are of all 103 tokens; scores, and densities of the random coder, of a uniform sample of 50 of them." in few


def test_the_same_arguments_give_the_same_page(model, documents, coder, page):
    assert dashboard(coder, model, resolve(model, SITE), documents, options=SMALL) == page


def test_dead_latents_are_named(model, documents, coder):
    dead = random_coder("relu", 32, 12)
    dead.b_enc.fill_(1e3)
    dead.b_enc[7] = -1e6
    found = dashboard(dead, model, resolve(model, SITE), documents, options=SMALL)
    section = found[found.rindex("<h2>") :]
    assert "<h2>1 latent that never fired here</h2>" in section
    assert "<p>7</p>" in section


def test_a_transcoder_is_judged_on_what_it_should_write(model, documents):
    sites = {"site_in": "L1.mlp_in", "site_out": "L1.mlp_out", "centre_input": False}
    found = dashboard(
        random_coder("topk", 32, 40, **sites), model, resolve(model, "L1.mlp_in"), documents, options=SMALL
    )
    assert "L1.mlp_in → L1.mlp_out" in found
    nowhere = random_coder("topk", 32, 40, site_in="L1.mlp_in", centre_input=False)
    with pytest.raises(CoderError, match="which site it writes"):
        dashboard(nowhere, model, resolve(model, "L1.mlp_in"), documents, options=SMALL)


def test_what_cannot_be_shown_is_refused(model, documents, coder):
    point = resolve(model, SITE)
    with pytest.raises(CoderError, match=r"wanted activations \[n, 16\]"):
        dashboard(random_coder("topk", 16, 48), model, point, documents)
    with pytest.raises(CaptureError, match="no documents"):
        dashboard(coder, model, point, [])
    silent = random_coder("relu", 32, 12)
    silent.b_enc.fill_(-1e6)
    with pytest.raises(ValueError, match="silent"):
        dashboard(silent, model, point, documents)
    with pytest.raises(ValueError, match="latents of at least 1, got 0"):
        DashboardOptions(latents=0)


def test_a_page_that_is_there_stays(tmp_path):
    path = tmp_path / "new" / "page.html"
    write_dashboard(path, "one")
    with pytest.raises(FileExistsError, match="is not overwritten"):
        write_dashboard(path, "two")
    assert path.read_text() == "one"
    write_dashboard(path, "two", force=True)
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]
    assert path.read_text() == "two"


def test_tokens_are_raised_by_the_direct_path(model, coder):
    unembedding = model.module.get_output_embeddings().weight.double()
    (found,) = promoted(coder, [5], model, 3)
    logits = unembedding @ coder.W_dec[5].double()
    z = (logits - logits.mean()) / logits.std(correction=0)
    assert [token for token, _ in found.raised] == z.argsort(descending=True)[:3].tolist()
    assert found.raised[0][1] == pytest.approx(float(z.max()), rel=1e-4)
    assert [token for token, _ in found.lowered] == z.argsort()[:3].tolist()
    assert found.lowered[0][1] == pytest.approx(float(z.min()), rel=1e-4)
    # the largest of 257 normal numbers is 2.8 on average
    assert promoted_by_chance(coder, model, torch.Generator().manual_seed(0)) == pytest.approx(2.8, abs=0.25)


def test_logits_of_another_width_are_not_made_up(model):
    narrow = random_coder("topk", 8, 24)
    assert promoted(narrow, [0], model, 3) is None
    assert promoted_by_chance(narrow, model, torch.Generator().manual_seed(0)) is None


def test_nearest_latents_are_by_cosine_and_rows_of_zeros_are_nobodys():
    coder = random_coder("relu", 2, 4)
    # latent 1 lies at 0.8 of latent 0, latent 2 opposite, latent 3 has no direction
    coder.W_dec.copy_(torch.tensor([[2.0, 0.0], [0.8, 0.6], [-1.0, 0.0], [0.0, 0.0]]))
    first, last = neighbours(coder, [0, 3], 3)
    assert [j for j, _ in first] == [1, 2]
    np.testing.assert_allclose([cosine for _, cosine in first], [0.8, -1.0], rtol=1e-6)
    assert last == []
