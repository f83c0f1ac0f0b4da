"""The page's script: draws the charts in the page's colours, switches their axis, shows the bands of chosen curves."""

from __future__ import annotations

import json
from typing import Any

from grow_cli.analysis.report.look import DARK, LIGHT, library


def scripts(charts: dict[str, Any]) -> str:
    """The library, the charts' data and what draws them.

    :param charts: id → `data`, `layout`, `axes`, plain
    """
    # no `<`: nothing in the data can end the script
    data = json.dumps(charts, allow_nan=False).replace("<", chr(92) + "u003c")
    palettes = json.dumps({"light": LIGHT, "dark": DARK})
    script = f"const CHARTS = {data};\nconst PALETTES = {palettes};\n{_SCRIPT}"
    return f"<script>{library()}</script>\n<script>\n{script}</script>\n"


_SCRIPT = """
"use strict";
const CONFIG = {responsive: true, displaylogo: false, modeBarButtons: [["zoom2d", "pan2d", "resetScale2d"]]};
const dark = matchMedia("(prefers-color-scheme: dark)");
const chosen = {};
let present = "step";

// `var(--name)` in a chart is a colour of the paper that it stands on
function inked(value, colours) {
  if (typeof value === "string") {
    const name = /^var\\(--([a-z]+)\\)$/.exec(value);
    return name && colours[name[1]] || value;
  }
  if (Array.isArray(value)) return value.map(part => inked(part, colours));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, inked(part, colours)]));
}

function draw(colours, changes) {
  return Object.entries(CHARTS).map(([id, chart]) => {
    const layout = Object.assign(inked(chart.layout, colours), changes);
    return Plotly.react(id, inked(chart.data, colours), layout, CONFIG);
  });
}
const now = () => PALETTES[dark.matches ? "dark" : "light"];

function show(axis) {
  present = axis;
  for (const [id, chart] of Object.entries(CHARTS)) {
    const at = chart.axes[axis];
    if (!at) continue;
    const data = at.y ? {x: at.x, y: at.y} : {x: at.x};
    const layout = {"xaxis.title.text": at.title, "xaxis.autorange": true};
    (at.lines || []).forEach((x, i) => { layout[`shapes[${i}].x0`] = x; layout[`shapes[${i}].x1`] = x; });
    Plotly.update(id, data, layout);
  }
  for (const button of document.querySelectorAll("nav.axes button"))
    button.setAttribute("aria-pressed", String(button.dataset.axis === axis));
}
for (const button of document.querySelectorAll("nav.axes button"))
  button.addEventListener("click", () => show(button.dataset.axis));

// a band follows its curve; it is drawn while the curve or its name is pointed at, and kept by a click
const isBand = (id, curve) => (CHARTS[id].data[curve + 1] || {}).meta === "band";
const band = (id, curve, opacity) => { if (isBand(id, curve)) Plotly.restyle(id, {opacity}, [curve + 1]); };
const rest = (id, curve) => band(id, curve, chosen[`${id} ${curve}`] ? 1 : 0);
function choose(id, curve) {
  if (!isBand(id, curve)) return;
  chosen[`${id} ${curve}`] = !chosen[`${id} ${curve}`];
  band(id, curve, chosen[`${id} ${curve}`] ? 1 : 0);
  for (const button of document.querySelectorAll(`.keys button[data-chart="${id}"][data-curve="${curve}"]`))
    button.setAttribute("aria-pressed", String(chosen[`${id} ${curve}`]));
}
function listen() {
  for (const id of Object.keys(CHARTS)) {
    if (!CHARTS[id].data.some(trace => trace.meta === "band")) continue;
    const chart = document.getElementById(id);
    chart.on("plotly_hover", event => band(id, event.points[0].curveNumber, 1));
    chart.on("plotly_unhover", event => rest(id, event.points[0].curveNumber));
    chart.on("plotly_click", event => choose(id, event.points[0].curveNumber));
  }
  for (const button of document.querySelectorAll(".keys button")) {
    const of = [button.dataset.chart, Number(button.dataset.curve)];
    for (const kind of ["mouseenter", "focus"]) button.addEventListener(kind, () => band(...of, 1));
    for (const kind of ["mouseleave", "blur"]) button.addEventListener(kind, () => rest(...of));
    button.addEventListener("click", () => choose(...of));
  }
}

function again(colours, changes) {
  draw(colours, changes);
  if (present !== "step") show(present);
  for (const key of Object.keys(chosen)) { const [id, curve] = key.split(" "); rest(id, Number(curve)); }
}
dark.addEventListener("change", () => again(now(), {}));
// paper is white and narrower than the screen, and the drawings have a width in pixels
window.addEventListener("beforeprint", () => again(PALETTES.light, {width: 680, autosize: false}));
window.addEventListener("afterprint", () => again(now(), {}));
Promise.all(draw(now(), {})).then(drawn => {
  listen();
  document.documentElement.setAttribute("data-drawn", String(drawn.length));
});
"""
