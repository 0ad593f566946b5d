"""Plots of one run as inline SVG."""

from __future__ import annotations

import io
from typing import Any

from faceinpaint_cli.errors import UsageError

INK, GRID, OURS, OTHERS = "#3c4650", "#d5dae0", "#c2410c", "#5b7083"


def hole_and_time(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """(caption, SVG) of PSNR in the hole by size of the hole (where there are several) and against time.

    UsageError where matplotlib is missing.
    """
    try:
        import matplotlib

        matplotlib.use("svg")
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator
    except ImportError as error:
        raise UsageError(f'plots need matplotlib, which is not installed: pip install ".[bench]" '
                         f"({error})") from None
    matplotlib.rcParams["svg.hashsalt"] = "faceinpaint"  # equal runs give equal files
    plain = {"parse_math": False}  # the dollars in a name of the user's are no formula
    measured = [r for r in rows if r.get("psnr_hole") is not None]
    found = []
    if len({h["hole"] for r in measured for h in r["by_hole"]}) > 1:
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = _axes(figure, "share of the picture that is hole", "PSNR in the hole, dB")
        for row in measured:
            axes.plot([h["hole"] for h in row["by_hole"]], [h["psnr_hole"] for h in row["by_hole"]],
                      marker="o", label=row["method"], color=_color(row), alpha=0.9)
            last = row["by_hole"][-1]
            axes.annotate(row["method"], (last["hole"], last["psnr_hole"]), xytext=(6, 0), fontsize=8,
                          textcoords="offset points", va="center", color=_color(row), **plain)
        axes.margins(x=0.2)
        found.append(("PSNR in the hole by size of the hole", _svg(figure)))
    # doing nothing takes no time, which would push the others to one edge
    timed = [r for r in measured if r.get("ms_per_image") and r.get("kind") != "copy"]
    if timed:
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = _axes(figure, "ms for a picture", "PSNR in the hole, dB")
        axes.set_xscale("log")
        times = [row["ms_per_image"] for row in timed]
        # over two decades and more there is no room for numbers between the powers of ten
        axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5) if max(times) < 100 * min(times) else ()))
        for ticks in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            ticks("{x:g}")
        for row in timed:
            low, high = row["spread"]["psnr_hole"]["ci95"]
            axes.plot([row["ms_per_image"]] * 2, [low, high], color=_color(row), alpha=0.5, linewidth=2)
            axes.plot(row["ms_per_image"], row["psnr_hole"], "o", color=_color(row))
            axes.annotate(row["method"], (row["ms_per_image"], row["psnr_hole"]), xytext=(7, 3), fontsize=9,
                          textcoords="offset points", color=_color(row), **plain)
        axes.margins(0.15)
        found.append(("PSNR in the hole against time, with the 95 % interval of the mean", _svg(figure)))
    return found


def _axes(figure: Any, x: str, y: str) -> Any:
    axes = figure.subplots()
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.grid(True, color=GRID, linewidth=0.6)
    axes.tick_params(colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _color(row: dict[str, Any]) -> str:
    return OURS if row["method"].startswith("generator") else OTHERS


def _svg(figure: Any) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg"):]
