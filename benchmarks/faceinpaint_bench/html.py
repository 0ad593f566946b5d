"""bench.html: one file with tables, plots and pictures, readable on a phone."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from faceinpaint_bench.images import Example
from faceinpaint_bench.report import IDENTITY, hole_table, notes, pair_lines, table

STYLE = """
:root { --ink: #1d2329; --soft: #5c6670; --line: #d9dee3; --paper: #ffffff; --mark: #c2410c; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --soft: #9aa4ae; --line: #39424b; --paper: #14181c; --mark: #fb923c; }
  .plot { background: #fff; border-radius: 6px; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
.words { text-align: left; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper); }
th { color: var(--soft); font-weight: 600; white-space: normal; vertical-align: bottom; min-width: 4rem; }
td.best { font-weight: 700; color: var(--mark); }
.plot svg { width: 100%; max-width: 40rem; height: auto; }
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .6rem; }
.strip figure { margin: 0; } .strip img { width: 100%; height: auto; display: block; }
figcaption { font-size: .8rem; color: var(--soft); }
article { border-top: 1px solid var(--line); padding-top: .6rem; margin-top: 1.4rem; }
.bad { color: var(--mark); }
"""

CASE = tuple(key for key in IDENTITY if key not in ("method", "mask"))
HIGHER = ("PSNR", "SSIM", "identity")
LOWER = ("LPIPS",)


Article = tuple[str, Sequence[tuple[np.ndarray, str]]]
"""A heading, and pictures (HWC uint8 RGB) with what is said under them."""


def page(report: dict[str, Any], plots: Sequence[tuple[str, str]], articles: Sequence[Article]) -> str:
    """The whole document; it refers to nothing outside itself."""
    parts = [f"<h1>faceinpaint bench: {_text(report['suite'])}</h1>"]
    if report.get("regressions"):
        parts.append("<h2 class=bad>Regressions</h2>" + _list(report["regressions"], "bad"))
    parts += [_list(notes(report)), _table(*table(report["rows"]))]
    if hole_table(report["rows"])[0]:
        parts += ["<h2>PSNR in the hole by its share of the picture (n)</h2>", _table(*hole_table(report["rows"]))]
    if pair_lines(report):
        parts.append("<h2>Differences</h2>" + _list(pair_lines(report)))
    if plots:
        parts.append("<h2>Plots</h2>")
        parts += [f"<figure class=plot>{svg}<figcaption>{_text(c)}</figcaption></figure>" for c, svg in plots]
    if articles:
        parts.append("<h2>Pictures, worst first</h2>")
        parts += [_article(*a) for a in articles]
    return ("<!doctype html><html lang=en><head><meta charset=utf-8>"
            "<meta name=viewport content='width=device-width, initial-scale=1'>"
            f"<title>faceinpaint bench</title><style>{STYLE}</style></head><body>"
            + "\n".join(parts) + "</body></html>\n")


def _table(heads: list[str], body: list[list[str]]) -> str:
    """The best figure of a column is marked among the rows of one case: a clip, coding, branch, or size."""
    cases = [tuple(cell for head, cell in zip(heads, row, strict=True) if head in CASE) for row in body]
    best = {}
    for case in set(cases):
        for column, head in enumerate(heads):
            rows = [row for row, own in zip(body, cases, strict=True) if own == case and row[column] != "-"]
            values = [float(row[column]) for row in rows if head.startswith((*HIGHER, *LOWER))]
            if len(values) > 1:
                best[case, column] = min(values) if head.startswith(LOWER) else max(values)
    kinds = ["words" if head in IDENTITY else "" for head in heads]
    lines = ["<tr>" + "".join(f"<th class='{k}'>{_text(h)}</th>" for h, k in zip(heads, kinds, strict=True)) + "</tr>"]
    for case, row in zip(cases, body, strict=True):
        shown = ""
        for column, cell in enumerate(row):
            is_best = (case, column) in best and cell != "-" and float(cell) == best[case, column]
            shown += f"<td class='{'best' if is_best else kinds[column]}'>{_text(cell)}</td>"
        lines.append(f"<tr>{shown}</tr>")
    return f"<div class=wide><table>{''.join(lines)}</table></div>"


def example_article(example: Example) -> Article:
    """One picture of suite `images`: damaged, by each method, and as it was."""
    case = example.case
    figures = [(case.damaged, "damaged")]
    for name, picture in example.results.items():
        s = example.scores[name]
        figures.append((picture, f"{name}: {s['psnr_hole']:.2f} dB in the hole"
                        + (f", LPIPS {s['lpips']:.3f}" if "lpips" in s else "")))
    return case.name, [*figures, (case.truth, "original")]


def _article(title: str, figures: Sequence[tuple[np.ndarray, str]]) -> str:
    shown = "".join(_figure(picture, caption) for picture, caption in figures)
    return f"<article><h3>{_text(title)}</h3><div class=strip>{shown}</div></article>"


def _figure(picture: np.ndarray, caption: str) -> str:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=88)
    data = base64.b64encode(out.getvalue()).decode()
    return (f"<figure><img loading=lazy alt='{_text(caption)}' src='data:image/jpeg;base64,{data}'>"
            f"<figcaption>{_text(caption)}</figcaption></figure>")


def _list(lines: Sequence[str], name: str = "") -> str:
    return f"<ul class='{name}'>" + "".join(f"<li>{_text(line)}</li>" for line in lines) + "</ul>"


def _text(value: str) -> str:
    return html.escape(str(value))
