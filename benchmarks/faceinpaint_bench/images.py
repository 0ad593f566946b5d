"""Suite `images`: every method on every case, measured whole and in the hole."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from faceinpaint_bench.config import BenchConfig
from faceinpaint_bench.methods import GENERATOR, Method, build_methods
from faceinpaint_bench.protocols import Case, Cases, Unused
from faceinpaint_cli import metrics

MEASURES = ("psnr", "psnr_hole", "ssim", "ssim_hole", "lpips", "identity")
LOWER_IS_BETTER = frozenset({"lpips"})


@dataclass
class Outcome:
    """What one method made of the cases; a case it failed on is in `failed`, not in `scores`."""

    method: Method
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Example:
    """A case with what each method made of it, for the report."""

    case: Case
    results: dict[str, np.ndarray]
    scores: dict[str, dict[str, float]]


@dataclass
class ImagesResult:
    protocol: dict[str, Any]
    outcomes: list[Outcome]
    left_out: dict[str, str]
    unused: list[Unused]
    holes: dict[str, str]
    examples: list[Example]


class Measures:
    """The measures that there are weights for."""

    def __init__(self, config: BenchConfig) -> None:
        self.lpips = metrics.Lpips(config.lpips) if config.lpips else None
        self.identity = metrics.Identity(config.identity) if config.identity else None

    def of(self, case: Case) -> Callable[[np.ndarray], dict[str, float]]:
        """A function that measures pictures against the truth of `case`."""
        features = self.lpips.features(case.truth) if self.lpips else []
        person = self.identity.embedding(case.truth) if self.identity else None

        def measure(result: np.ndarray) -> dict[str, float]:
            whole, hole = metrics.ssim_both(result, case.truth, case.mask)
            found = {"psnr": metrics.psnr(result, case.truth),
                     "psnr_hole": metrics.psnr(result, case.truth, case.mask), "ssim": whole, "ssim_hole": hole}
            if self.lpips:
                found["lpips"] = self.lpips.distance(self.lpips.features(result), features)
            if self.identity and person is not None:
                found["identity"] = float(self.identity.embedding(result) @ person)
            return found

        return measure


def run_images(config: BenchConfig, watch: Callable[[Iterable[Case], int], Iterable[Case]],
               save: Callable[[Case], None] | None = None) -> ImagesResult:
    """Measure; `watch` wraps the cases, to show progress; `save` is handed every case."""
    methods, left_out = build_methods(config)
    cases, measures = Cases(config), Measures(config)
    outcomes = [Outcome(m) for m in methods]
    holes: dict[str, str] = {}
    examples = _Worst(config.examples)
    for case in watch(cases, len(cases)):
        measure, results = measures.of(case), {}
        holes[case.name] = case.hole
        if save:
            save(case)
        for outcome in outcomes:
            result = _run(outcome, case)
            if result is not None:
                outcome.scores[case.name] = measure(result)
                results[outcome.method.name] = result
        examples.offer(Example(case, results, {o.method.name: o.scores[case.name] for o in outcomes
                                               if case.name in o.scores}))
    protocol = cases.describe() | {"lpips": measures.lpips.name if measures.lpips else None,
                                   "identity": measures.identity is not None}
    return ImagesResult(protocol, outcomes, left_out, cases.left_out, holes, examples.sorted())


def _run(outcome: Outcome, case: Case) -> np.ndarray | None:
    """The picture of one method, composited unless it looked for the hole itself; None where it failed."""
    method = outcome.method
    start = time.perf_counter()
    try:
        result = method.fill(case)
    except Exception as error:  # any failure of a method is a figure of the report, with its message
        outcome.failed.append((case.name, f"{type(error).__name__}: {error}"))
        return None
    outcome.seconds.append(time.perf_counter() - start)
    return result if method.blind else np.where(case.mask[..., None], result, case.truth)


class _Worst:
    """Keeps the cases that the generator (or else the first method of each) did worst on, and the best
    one."""

    def __init__(self, most: int) -> None:
        self.most, self.kept = most, list[Example]()

    def offer(self, example: Example) -> None:
        self.kept.append(example)
        if len(self.kept) > self.most:
            self.kept = self.sorted()[:self.most]

    def sorted(self) -> list[Example]:
        return sorted(self.kept, key=_quality)[:self.most]


def _quality(example: Example) -> float:
    ours = next((n for n in example.scores if n.startswith(GENERATOR)), next(iter(example.scores), None))
    return example.scores[ours]["psnr_hole"] if ours else -math.inf


def make_rows(result: ImagesResult, seed: int) -> list[dict[str, Any]]:
    """One row a method: means, their spread, by size of the hole, and how many pictures they rest on."""
    rows = []
    for outcome in result.outcomes:
        names = list(outcome.scores)
        row: dict[str, Any] = {
            "method": outcome.method.name, "kind": outcome.method.kind, "dataset": result.protocol["dataset"],
            "mask": "withheld" if outcome.method.blind else "given",
            "n": len(names), "n_total": len(result.holes),
        }
        for measure in MEASURES:
            values = [outcome.scores[n][measure] for n in names if measure in outcome.scores[n]]
            row[measure] = float(np.mean(values)) if values else None
            if values:
                row.setdefault("spread", {})[measure] = metrics.summary(values, seed)
        timed = outcome.method.timed and outcome.seconds
        row["ms_per_image"] = float(np.median(outcome.seconds)) * 1000 if timed else None
        row["by_hole"] = _by_hole(outcome, result.holes)
        row["model_sha256"] = outcome.method.sha256
        row["failed"] = [{"name": n, "error": e} for n, e in outcome.failed]
        rows.append(row)
    return rows


def _by_hole(outcome: Outcome, holes: dict[str, str]) -> list[dict[str, Any]]:
    found = []
    for label in sorted(set(holes.values()), key=lambda s: int(s.split("-")[0])):
        scores = [s for n, s in outcome.scores.items() if holes[n] == label]
        if scores:
            found.append({"hole": label, "n": len(scores)} |
                         {m: float(np.mean([s[m] for s in scores])) for m in MEASURES if m in scores[0]})
    return found


def make_pairs(result: ImagesResult, seed: int) -> list[dict[str, Any]]:
    """The generator (or else the first row) minus each other method, on the pictures that both managed."""
    if not result.outcomes:
        return []
    ours = next((o for o in result.outcomes if o.method.name.startswith(GENERATOR)), result.outcomes[0])
    pairs = []
    for other in result.outcomes:
        names = [n for n in ours.scores if n in other.scores]
        if other is ours or not names:
            continue
        for measure in MEASURES:
            if measure in ours.scores[names[0]] and measure in other.scores[names[0]]:
                a, b = ([o.scores[n][measure] for n in names] for o in (ours, other))
                pairs.append({"a": ours.method.name, "b": other.method.name, "measure": measure,
                              "n": len(names)} | metrics.paired_difference(a, b, seed))
    return pairs
