"""Reports of one run: bench.json, bench.md, scores.csv and JUnit XML. The pages with pictures are in
html.py."""

from __future__ import annotations

import csv
import io
import json
from typing import Any
from xml.etree import ElementTree

from faceinpaint_bench.gate import label_of

COLUMNS = {
    "psnr": ("PSNR", "{:.2f}"), "psnr_hole": ("PSNR hole", "{:.2f}"), "ssim": ("SSIM", "{:.4f}"),
    "ssim_hole": ("SSIM hole", "{:.4f}"), "lpips": ("LPIPS", "{:.4f}"), "identity": ("identity", "{:.3f}"),
    "psnr_damaged": ("PSNR damaged frames", "{:.2f}"), "psnr_inside": ("PSNR inside", "{:.2f}"),
    "ssim_damaged": ("SSIM damaged frames", "{:.4f}"), "ssim_inside": ("SSIM inside", "{:.4f}"),
    "lpips_damaged": ("LPIPS damaged frames", "{:.4f}"), "worse": ("worse", "{:.1%}"), "exact": ("exact", "{:.1%}"),
    "warping_error": ("jump", "{:.2f}"), "flicker": ("flicker", "{:.2f}x"), "fps": ("frames/s", "{:.1f}"),
    "images_per_second": ("images/s", "{:.2f}"), "ratio": ("ratio", "{:.3f}"),
    "memory_mib": ("memory MiB", "{:.0f}"), "frame_errors": ("frames off", "{:d}"),
    "sync_errors": ("times off", "{:d}"), "ms_per_image": ("ms", "{:.1f}"),
}
FEWEST = 5
"""Pictures below which no interval is shown: resampling so few only gives back their smallest and largest figure."""
IDENTITY = ("method", "stage", "clip", "codec", "branch", "size", "mask")


def to_json(report: dict[str, Any]) -> str:
    return json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the columns that some row has."""
    keys = [k for k in IDENTITY if any(r.get(k) is not None for r in rows)]
    if "mask" in keys and all(r.get("mask") == "given" for r in rows):
        keys.remove("mask")
    measures = [k for k in COLUMNS if any(r.get(k) is not None for r in rows)]
    heads = [*keys, *(COLUMNS[k][0] for k in measures)]
    spread = any("psnr_hole" in r.get("spread", {}) for r in rows)
    if spread:
        heads.append("95 % of PSNR hole")
    counted = any("n" in r for r in rows)
    if counted:
        heads.append("n")
    body = []
    for r in rows:
        cells = ["" if r.get(k) is None else str(r[k]) for k in keys]
        cells += ["-" if r.get(k) is None else COLUMNS[k][1].format(r[k]) for k in measures]
        if spread:
            low, high = r.get("spread", {}).get("psnr_hole", {}).get("ci95", (None, None))
            cells.append("-" if low is None or r["n"] < FEWEST else f"{low:.2f} to {high:.2f}")
        if counted:
            cells.append(count(r))
        body.append(cells)
    return heads, body


def hole_table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """PSNR in the hole by its share of the picture; no headings where all holes are of one size."""
    sizes = list(dict.fromkeys(h["hole"] for r in rows for h in r.get("by_hole", [])))
    if len(sizes) < 2:
        return [], []
    body = []
    for r in rows:
        by = {h["hole"]: f"{h['psnr_hole']:.2f} ({h['n']})" for h in r["by_hole"]}
        body.append([r["method"], *(by.get(size, "-") for size in sizes)])
    return ["method", *sizes], body


def count(row: dict[str, Any]) -> str:
    n, total = row.get("n", 0), row.get("n_total", row.get("n", 0))
    return str(n) if n == total else f"{n} of {total}"


def notes(report: dict[str, Any]) -> list[str]:
    """What a reader must know beside the table, a sentence each."""
    p = report["protocol"]
    found = []
    if report["suite"] == "images":
        found.append(f"Protocol {p['name']}, {p['n']} pictures of {p['dataset']}, {p['size']} x {p['size']}, "
                     f"hole: {p['hole']}. Means over pictures; the whole-picture PSNR of a hole of a quarter is "
                     "6 dB above that of the hole alone.")
        if p["lpips"] is None:
            found.append("LPIPS was not measured: no weights (--lpips FILE or FACEINPAINT_LPIPS).")
    elif report["suite"] == "video":
        found.append(f"{p['n']} clips of {p['dataset']}, damaged by seed {p['seed']}. PSNR: {p['psnr']}; inside: of "
                     f"the true damage alone. Masks: {p['masks']}. Worse: damaged frames more than 0.1 dB "
                     "below the decoder's concealment, inside the damage. Flicker: RMS jump against the true motion, "
                     "in steps of 255.")
        if p.get("frames"):
            found.append(f"The first {p['frames']} frames of each clip.")
        if "fidelity" in p:
            found.append(f"Run with fidelity {p['fidelity']:g}.")
    elif report["suite"] == "speed":
        found.append(f"{p['clip']} and pictures of {p['dataset']}, one after the other, {p['repeats']} times, the best "
                     "counts. Ratio: to decoding and encoding alone in the same run.")
    found += [f"Left out: {name}: {why}." for name, why in report.get("left_out", {}).items()]
    if report.get("unused"):
        first = report["unused"][0]
        found.append(f"{len(report['unused'])} pictures were not usable; the first: {first['name']}: "
                     f"{first['error']}.")
    for row in report["rows"]:
        if row.get("failed"):
            first = row["failed"][0]
            found.append(f"{row['method']} failed on {len(row['failed'])} of {row['n_total']}, which its means "
                         f"leave out; the first: {first['name']}: {first['error']}.")
    return found


def failures(report: dict[str, Any]) -> list[str]:
    """A line for each input that could not be used or that a method failed on; those that the protocol leaves out by
    its own definition are none."""
    found = {u["name"]: u["error"] for u in report.get("unused", []) if u["failed"]}
    for row in report["rows"]:
        for f in row.get("failed", []):
            found.setdefault(f["name"], f"{row['method']}: {f['error']}")
    return [f"{name}: {' '.join(error.split())}" for name, error in found.items()]


def pair_lines(report: dict[str, Any], measure: str = "psnr_hole") -> list[str]:
    """'a is better than b' for each pair, only where the interval of the difference excludes zero; of few pictures
    the difference alone."""
    lines = []
    for p in report.get("pairs", []):
        if p["measure"] != measure:
            continue
        if p["n"] < FEWEST:
            lines.append(f"{p['a']} minus {p['b']}: {p['mean']:+.2f} dB in the hole "
                         f"(n = {p['n']}, too few to say which is better)")
            continue
        low, high = p["ci95"]
        verdict = "better than" if low > 0 else "worse than" if high < 0 else "not shown to differ from"
        lines.append(f"{p['a']} is {verdict} {p['b']}: {p['mean']:+.2f} dB in the hole "
                     f"(95 %: {low:+.2f} to {high:+.2f}, n = {p['n']})")
    return lines


def to_markdown(report: dict[str, Any]) -> str:
    """Fits the summary page of a CI run."""
    heads, body = table(report["rows"])
    lines = [f"# faceinpaint bench: {report['suite']}", "", *(f"- {n}" for n in notes(report)), "",
             *_pipes(heads, body)]
    heads, body = hole_table(report["rows"])
    if heads:
        lines += ["", "## PSNR in the hole by its share of the picture (n)", "", *_pipes(heads, body)]
    pairs = pair_lines(report)
    if pairs:
        lines += ["", "## Differences", "", *(f"- {p}" for p in pairs)]
    if report.get("regressions"):
        lines += ["", "## Regressions", "", *(f"- {r}" for r in report["regressions"])]
    return "\n".join(lines) + "\n"


def _pipes(heads: list[str], body: list[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return lines + ["| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |" for cells in body]


def to_csv(scores: dict[str, dict[str, dict[str, float]]], holes: dict[str, str]) -> str:
    """Every measure of every picture: {method: {picture: {measure: value}}}."""
    measures = sorted({m for of in scores.values() for s in of.values() for m in s})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["picture", "hole", "method", *measures])
    for method, of in scores.items():
        for name, values in of.items():
            writer.writerow([name, holes[name], method, *(values.get(m, "") for m in measures)])
    return out.getvalue()


def to_junit(report: dict[str, Any]) -> str:
    """A test for each row, failed where pictures failed or the gate found it worse; what was left out is skipped."""
    bad = report.get("regressions", [])
    suite = ElementTree.Element("testsuite", name=f"faceinpaint bench {report['suite']}")
    failures = 0
    rows = report["rows"]
    taken: set[str] = set()
    for row in rows:
        name = " ".join(str(row[k]) for k in IDENTITY if row.get(k) is not None)
        test = ElementTree.SubElement(suite, "testcase", classname=f"bench.{report['suite']}", name=name)
        mine = [line for line in bad if line.startswith(f"{label_of(row)}: ")]
        taken.update(mine)
        lines = mine + [f"{f['name']}: {f['error']}" for f in row.get("failed", [])]
        if lines:
            failures += 1
            ElementTree.SubElement(test, "failure", message=lines[0]).text = "\n".join(lines)
    rest = [line for line in bad if line not in taken]
    for line in rest:
        test = ElementTree.SubElement(suite, "testcase", classname="bench.gate", name=line.split(":")[0])
        ElementTree.SubElement(test, "failure", message=line)
    left_out = report.get("left_out", {})
    for name, why in left_out.items():
        test = ElementTree.SubElement(suite, "testcase", classname=f"bench.{report['suite']}", name=name)
        ElementTree.SubElement(test, "skipped", message=why)
    suite.set("tests", str(len(rows) + len(rest) + len(left_out)))
    suite.set("failures", str(failures + len(rest)))
    suite.set("skipped", str(len(left_out)))
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
