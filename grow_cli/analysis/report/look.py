"""Shared by all pages: light and dark colours, style, the file around a page's parts. No page needs the network."""

from __future__ import annotations

from html import escape
from importlib import resources

LIGHT = {
    "paper": "#ffffff",
    "panel": "#f3f5f7",
    "ink": "#1b1f24",
    "soft": "#57606a",
    "line": "#d5d9de",
    "shade": "#aab2bb",
    "grid": "#e6e8eb",
    "link": "#0a58a8",
    "right": "#116329",
    "wrong": "#a8231b",
}
DARK = {
    "paper": "#14181d",
    "panel": "#1f262d",
    "ink": "#e6e9ed",
    "soft": "#a5afba",
    "line": "#3a434d",
    "shade": "#5d6873",
    "grid": "#2a323a",
    "link": "#7cb7ff",
    "right": "#5cc46f",
    "wrong": "#ff8f85",
}
"""Name → colour. In a style or a chart it is `var(--name)`, so that one page fits both papers."""

SERIES = (
    *("#0077aa", "#dd6600", "#449955", "#aa4488", "#2255ff", "#886655"),
    *("#ff5588", "#779999", "#bb77cc", "#cc2211", "#cc22cc", "#3388ff"),
)
"""Twelve colours of curves: 3:1 or more on either paper, and far from each other for normal eyes (0.118 or more in OKLab) and for
those without red or green cones; found by a greedy search."""


def contrast(first: str, second: str) -> float:
    """The contrast ratio of two colours `#rrggbb`, 1 to 21 (WCAG 2, relative luminance)."""
    high, low = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def on(colour: str) -> str:
    """Black or white, whichever is read better on this colour."""
    return max("#000000", "#ffffff", key=lambda text: contrast(text, colour))


def document(title: str, facts: str, body: str, *, scripts: str = "") -> str:
    """The whole file.

    :param facts: a line below the title, as text
    :param body, scripts: HTML
    """
    return _PAGE.format(title=escape(title), facts=escape(facts), style=style(), body=body, scripts=scripts)


def style() -> str:
    """Light or dark, as the reader's system prefers; always light in print."""
    light, dark = (" ".join(f"--{name}: {of};" for name, of in palette.items()) for palette in (LIGHT, DARK))
    return (
        f"\n:root {{ color-scheme: light; {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ color-scheme: dark; {dark} }} }}{_STYLE}"
    )


def library() -> str:
    """plotly.js with the traces that charts here are made of (its basic bundle), a quarter of the whole."""
    return (resources.files(__package__) / "plotly-basic.min.js").read_text(encoding="utf-8")


_STYLE = """
* { box-sizing: border-box; }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto; max-width: 72rem;
  padding: 0 1rem; }
a { color: var(--link); }
h1 { font-size: 1.45rem; line-height: 1.25; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; border-bottom: 1px solid var(--line); padding-bottom: .25rem;
  overflow-wrap: anywhere; break-after: avoid; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; break-after: avoid; }
.where, .note { color: var(--soft); font-size: .87rem; margin: .35rem 0; overflow-wrap: anywhere; }
.verdict { background: var(--panel); border-left: 4px solid var(--link); padding: .6rem 1rem; margin: .8rem 0; }
.verdict p { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
.verdict ul { margin: .4rem 0 0; padding-left: 1.1rem; overflow-wrap: anywhere; }
dl.facts { display: grid; gap: .5rem 1.2rem; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); margin: 1rem 0; }
dl.facts dt { color: var(--soft); font-size: .8rem; }
dl.facts dd { margin: 0; overflow-wrap: anywhere; }
/* a table that is wider than the page scrolls by itself; a shade at a side says that there is more */
.scroll { overflow-x: auto; margin: .6rem 0; background:
  linear-gradient(to right, var(--paper) 1.5rem, transparent 3rem) left / 3rem 100% no-repeat local,
  linear-gradient(to left, var(--paper) 1.5rem, transparent 3rem) right / 3rem 100% no-repeat local,
  linear-gradient(to right, var(--shade), transparent) left / .8rem 100% no-repeat scroll,
  linear-gradient(to left, var(--shade), transparent) right / .8rem 100% no-repeat scroll, var(--paper); }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; }
th:first-child, td:first-child, th.text, td.text { text-align: left; }
td.text { white-space: normal; min-width: 14rem; overflow-wrap: anywhere; }
table.confusion td { text-align: center; } table.confusion td:first-child { text-align: left; }
.path { white-space: nowrap; }
tr { break-inside: avoid; }
nav.axes { position: sticky; top: 0; z-index: 5; background: var(--paper); padding: .5rem 0; display: flex; flex-wrap: wrap;
  gap: .35rem; align-items: center; }
nav.axes span { color: var(--soft); font-size: .87rem; }
nav.axes button { font: inherit; font-size: .87rem; color: inherit; background: var(--paper); border: 1px solid var(--line);
  border-radius: 1rem; padding: .2rem .75rem; cursor: pointer; }
nav.axes button[aria-pressed="true"] { background: var(--ink); color: var(--paper); border-color: var(--ink); }
.keys { display: flex; flex-wrap: wrap; gap: .15rem .5rem; margin: .3rem 0; }
.keys button { font: inherit; font-size: .83rem; color: inherit; background: none; border: 1px solid transparent; cursor: pointer;
  border-radius: .3rem; padding: .1rem .35rem; display: flex; gap: .4rem; align-items: center; text-align: left;
  overflow-wrap: anywhere; }
.keys button:hover, .keys button:focus-visible { border-color: var(--soft); }
.keys button[aria-pressed="true"] { background: var(--panel); border-color: var(--ink); }
.keys svg { flex: none; }
.charts { display: grid; gap: 1rem; grid-template-columns: 1fr 1fr; }
figure { margin: 0; min-width: 0; break-inside: avoid; }
figure.full { grid-column: 1 / -1; }
figcaption { font-weight: 600; font-size: .93rem; margin: .5rem 0 .1rem; overflow-wrap: anywhere; }
.chart { width: 100%; }
details { margin: .8rem 0; }
summary { cursor: pointer; font-weight: 600; }
pre { background: var(--panel); padding: .8rem; overflow-x: auto; font-size: .8rem; }
.gallery { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); margin: .8rem 0; }
.gallery.large { grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); }
.gallery figure { border: 1px solid var(--line); border-radius: .4rem; padding: .5rem; font-size: .83rem; }
.gallery figure.wide { grid-column: span 2; }
.gallery.large figure.wide { grid-column: span 3; }
.gallery img { display: block; margin: 0 auto .4rem; max-width: 100%; image-rendering: pixelated; }
.gallery figure.wide img { image-rendering: auto; background: white; }
.gallery figcaption { font-weight: 400; font-size: inherit; }
.gallery p { margin: .1rem 0; }
.gallery .head { display: flex; justify-content: space-between; gap: .5rem; }
.right { color: var(--right); } .wrong { color: var(--wrong); } .back, .small { color: var(--soft); }
.small { font-size: .8rem; }
@media (hover: none), (max-width: 44rem) { .modebar { display: none !important; } }
@media (max-width: 44rem) {
  body { margin: 1rem auto; padding: 0 .75rem; }
  .charts { grid-template-columns: 1fr; }
  .gallery figure.wide, .gallery.large figure.wide { grid-column: 1 / -1; }
}
@media print {
  html { font-size: 12px; }
  body { margin: 0; max-width: none; font-size: 11px; }
  nav.axes, .modebar { display: none !important; }
  .charts { display: block; }
  .scroll, pre { overflow: visible; background: none; }
  pre { white-space: pre-wrap; }
  td, th, .path { white-space: normal; }
  td, th { padding: .15rem .4rem; }
  td.text { min-width: 9rem; }
  .confusion td, .keys svg { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data: blob:; \
style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p class="where">{facts}</p>
{body}
{scripts}</body>
</html>
"""
