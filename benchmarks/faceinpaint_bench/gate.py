"""Is it worse than it was? A report against a stored one."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from faceinpaint_cli.errors import DataError, UsageError

SCHEMA = 1

GATED = {  # field of a row: (name in --tolerance, whether higher is better)
    "psnr": ("psnr", True), "psnr_hole": ("psnr", True), "psnr_damaged": ("psnr", True),
    "psnr_inside": ("psnr", True), "ssim": ("ssim", True), "ssim_hole": ("ssim", True),
    "ssim_damaged": ("ssim", True), "ssim_inside": ("ssim", True), "lpips": ("lpips", False),
    "lpips_damaged": ("lpips", False),
    "identity": ("identity", True), "ms_per_image": ("ms", False), "fps": ("fps", True),
    "ratio": ("ratio", True), "images_per_second": ("fps", True),
}
DEFAULT_TOLERANCE = "psnr=0.1,ssim=0.002,lpips=0.005,identity=0.01"
"""Times are gated only where --tolerance names them: machines that share their cores vary by more than 30
%."""

KEYS = ("method", "dataset", "mask", "clip", "codec", "branch", "stage", "size")
"""What makes a row the same row."""


def parse_tolerance(text: str) -> dict[str, tuple[float, bool]]:
    """'psnr=0.1,ms=30%' to {name: (amount, whether it is a share)}, on top of the default."""
    known = sorted({name for name, _ in GATED.values()})
    found: dict[str, tuple[float, bool]] = {}
    for part in ",".join(filter(None, (DEFAULT_TOLERANCE, text))).split(","):
        m = re.fullmatch(r"\s*(\w+)\s*=\s*(\d+(?:\.\d*)?|\.\d+)\s*(%?)\s*", part)
        if not m or m.group(1) not in known:
            raise UsageError(f"--tolerance must look like psnr=0.1,ms=30%, with {', '.join(known)}; "
                             f"not {part!r}")
        found[m.group(1)] = (float(m.group(2)) / (100 if m.group(3) else 1), bool(m.group(3)))
    return found


def read_baseline(path: Path, flag: str = "--gate") -> dict[str, Any]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{flag} {path} is not a readable bench.json ({error}); "
                        "write one with --update-baseline") from None
    if not isinstance(report, dict) or report.get("schema") != SCHEMA or not isinstance(report.get("rows"), list):
        raise DataError(f"{flag} {path} is not a bench.json of schema {SCHEMA}")
    wrong = next(filter(None, map(_what_is_wrong, report["rows"])), None)
    if not isinstance(report.get("protocol", {}), dict):
        wrong = f"protocol must be an object, not {report['protocol']!r}"
    if wrong:
        raise DataError(f"{flag} {path} is not as `bench` writes it: {' '.join(wrong.split())[:200]}; write one with "
                        "--update-baseline")
    return report


def _what_is_wrong(row: Any) -> str | None:
    """What keeps a row of a baseline from being compared; None where nothing does."""
    if not isinstance(row, dict):
        return f"a row must be an object, not {row!r}"
    for key in (*KEYS, "kind"):
        value = row.get(key)
        if isinstance(value, (list, dict)) or (key == "method" and not isinstance(value, str)):
            return f"{key} of a row must be a word, not {value!r}"
    for field in (*GATED, "n"):
        value = row.get(field)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if value is not None and not is_number:
            return f"{field} of {label_of(row)} must be a number, not {value!r}"
    return None


def check_comparable(suite: str, protocol: dict[str, Any], baseline: dict[str, Any], path: Path,
                     whole: bool = True) -> None:
    """UsageError that names the fields of suite and protocol that differ; unless `whole`, of those given."""
    ours = {"suite": suite, **protocol}
    theirs = {"suite": baseline.get("suite"), **baseline.get("protocol", {})}
    differing = [f"{k} ({theirs.get(k)!r}, now {ours.get(k)!r})" for k in ({**theirs, **ours} if whole else ours)
                 if theirs.get(k) != ours.get(k)]
    if differing:
        raise UsageError(f"--gate {path} was measured otherwise: {', '.join(differing)}; measure the same, or "
                         "write a new one with --update-baseline")


def compared(baseline: dict[str, Any], named: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The rows of a baseline that a report is held against: of the kinds in `named`, where it names some."""
    return [old for old in baseline["rows"] if not named or old.get("kind", old["method"]) in (*named, "external")]


def regressions(report: dict[str, Any], baseline: dict[str, Any], tolerance: dict[str, tuple[float, bool]],
                named: tuple[str, ...] = ()) -> list[str]:
    """One line for each figure that is worse than the baseline's by more than the tolerance, and for each row
    that is gone or rests on fewer pictures. Where `named` is given, only rows of these kinds are compared."""
    rows = {_key(r): r for r in report["rows"]}
    lines = []
    for old in compared(baseline, named):
        label = label_of(old)
        new = rows.get(_key(old))
        if new is None:
            why = report.get("left_out", {}).get(old["method"])
            lines.append(f"{label}: in the baseline, not measured now" + (f" ({why})" if why else ""))
            continue
        if new.get("n", 0) < (old.get("n") or 0):
            lines.append(f"{label}: {new.get('n', 0)} of {new.get('n_total')} done, {old['n']} in the baseline")
        for field, (name, higher) in GATED.items():
            if name in tolerance and old.get(field) is not None:
                lines.extend(_worse(label, field, old[field], new.get(field), tolerance[name], higher))
    return lines


def _worse(label: str, field: str, old: float, new: float | None, tolerance: tuple[float, bool],
           higher: bool) -> list[str]:
    if new is None:
        return [f"{label}: {field} was {old:.4g}, not measured now"]
    amount, share = tolerance
    allowed = amount * abs(old) if share else amount
    loss = old - new if higher else new - old
    if loss <= allowed + 1e-9:
        return []
    limit = f"{amount:.0%}" if share else f"{amount:g}"
    return [f"{label}: {field} {old:.4f} -> {new:.4f}, worse by {loss:.4f} (allowed {limit})"]


def label_of(row: dict[str, Any]) -> str:
    """What a line of `regressions` about this row begins with, before its colon."""
    return " ".join(str(v) for v in _key(row) if v is not None)


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(k) for k in KEYS)
