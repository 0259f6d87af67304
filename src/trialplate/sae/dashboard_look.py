"""The style and the script of a dashboard. Both are constants without anything from a coder in them: the page allows these very texts by their digest
and no other, so that nothing which stands in a token can run or restyle it."""

from __future__ import annotations

import base64
import hashlib

SHADES = 8
"""Steps of the background of a token, from no activation to the largest of its latent."""

STYLE = """
:root { color-scheme: light; --ink: #1b1b1b; --soft: #555; --line: #d5d5d5; --accent: #004f80; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; color: var(--ink); background: #fff;
  font: 16px/1.45 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; margin: 1.8rem 0 .4rem; }
h3 { font-size: .95rem; margin: 1rem 0 .3rem; }
p { margin: .3rem 0; max-width: 48rem; }
.soft, figcaption { color: var(--soft); font-size: .88rem; }
a { color: var(--accent); }
.wide { overflow-x: auto; } .hint { display: none; } .whole { white-space: nowrap; }
table { border-collapse: collapse; font-size: .9rem; overflow-wrap: normal; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; white-space: nowrap; }
th:first-child, td:first-child, th.text, td.text { text-align: left; }
.facts td.text { white-space: normal; overflow-wrap: anywhere; } .scores td.text { white-space: normal; min-width: 11rem; }
thead th { border-bottom: 2px solid var(--ink); }
th button { font: inherit; font-weight: 700; padding: 0; border: 1px solid transparent; border-width: 0 0 2px; background: none; color: inherit; cursor: pointer; }
th button:hover, th button:focus-visible { border-color: var(--accent); }
th[aria-sort=ascending] button::after { content: " \\25B2"; } th[aria-sort=descending] button::after { content: " \\25BC"; }
figure { margin: .5rem 0; max-width: 40rem; } svg { width: 100%; height: auto; display: block; }
svg text { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: #333; }
.bar { fill: #0072b2; } .dead { fill: #444; } .null { fill: none; stroke: #1b1b1b; stroke-width: 1.6; } .axis { stroke: #777; } .grid { stroke: #e3e3e3; }
.filter { margin: .6rem 0; } .filter input { font: inherit; padding: .3rem .5rem; width: min(100%, 22rem); border: 1px solid #777; border-radius: 4px; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: 0 .8rem; }
details[open] { padding-bottom: .8rem; }
summary { cursor: pointer; padding: .5rem 0; font-weight: 600; } summary .soft { font-weight: 400; }
ol.contexts { margin: 0; padding: 0; list-style: none; }
.contexts li { display: flex; gap: .6rem; border-top: 1px solid #eee; padding: .2rem 0; align-items: baseline; }
.value { flex: 0 0 6.4rem; text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; font-size: .85rem; }
.said { font: .88rem/1.7 ui-monospace, "DejaVu Sans Mono", monospace; white-space: pre-wrap; min-width: 0; }
.said span { border-radius: 2px; } .said .told::after { content: " " attr(title) " "; background: var(--ink); color: #fff; border-radius: 2px; font-weight: 400; }
 .said .peak { font-weight: 700; text-decoration: underline; text-decoration-thickness: 2px; text-underline-offset: 3px; }
.token { font: .86rem ui-monospace, "DejaVu Sans Mono", monospace; white-space: pre-wrap; background: #f0f0f0; border-radius: 2px; padding: 0 .15rem; }
.s1 { background: #fff4dc; } .s2 { background: #ffebc2; } .s3 { background: #ffe1a6; } .s4 { background: #ffd68a; }
.s5 { background: #fecb6c; } .s6 { background: #fdbf4d; } .s7 { background: #f9b233; } .s8 { background: #f3a51e; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
@media (max-width: 36rem) { body { padding: .7rem; } th, td { padding: .2rem .4rem; } .value { flex-basis: 5.8rem; } details { padding: 0 .5rem; }
  .hint { display: block; color: var(--soft); font-size: .88rem; } .facts th, .scores th, .scores td { white-space: normal; } .scores td.text { min-width: 6rem; } }
"""

SCRIPT = """
"use strict";
const table = document.getElementById("latents");
const body = table.tBodies[0];
table.tHead.querySelectorAll("th").forEach((head, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = head.textContent;
  head.replaceChildren(button);
  button.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") !== "descending";
    table.tHead.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.key;
    const order = (a, b) => {
      const [x, y] = [key(a), key(b)];
      const numbers = [parseFloat(x), parseFloat(y)];
      const found = numbers.some(Number.isNaN) ? x.localeCompare(y) : numbers[0] - numbers[1];
      return down ? -found : found;
    };
    body.append(...[...body.rows].sort(order));
  });
});
const box = document.getElementById("filter");
box.hidden = false;
const count = document.getElementById("count");
box.querySelector("input").addEventListener("input", (event) => {
  const wanted = event.target.value.toLowerCase();
  let shown = 0;
  document.querySelectorAll("details[data-latent]").forEach((one) => {
    const fits = one.textContent.toLowerCase().includes(wanted);
    one.hidden = !fits;
    document.getElementById("row-" + one.dataset.latent).hidden = !fits;
    shown += fits ? 1 : 0;
  });
  count.textContent = wanted ? shown + " latents" : "";
});
document.addEventListener("click", (event) => {
  const token = event.target.closest(".said span");
  document.querySelectorAll(".told").forEach((other) => { if (other !== token) { other.classList.remove("told"); } });
  if (token) { token.classList.toggle("told"); }
});
const open = () => {
  const target = document.getElementById(location.hash.slice(1));
  if (target && target.tagName === "DETAILS") { target.open = true; }
};
window.addEventListener("hashchange", open);
open();
"""


def policy() -> str:
    """The page's content security policy: its own style and script by digest, no network, no frames, no forms."""
    return f"default-src 'none'; style-src 'sha256-{_digest(STYLE)}'; script-src 'sha256-{_digest(SCRIPT)}'; base-uri 'none'; form-action 'none'"


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
