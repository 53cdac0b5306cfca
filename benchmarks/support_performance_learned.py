"""What estimates err by once a server of their kind was measured under another load.

Each run of a kind (source, model, release, GPU, division) is predicted anew with the others of the
kind as what was measured: all of them, of which the nearest load corrects, or any single one.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from support_performance_view import Pair

from fitting.performance_runs import Run
from vllm_operator.sizing.performance.learned import Kind, Load, MeasuredSpeed, correction


@dataclass(frozen=True)
class Learned:
    """Errors of one figure over all runs whose kind has several."""

    figure: str
    runs: int
    before: float
    nearest: float
    single: float
    """Medians: uncorrected, by the nearest of all others, by any one of the others."""

    def to_json_object(self) -> dict[str, Any]:
        """As it stands in the results."""
        return {
            "runs": self.runs,
            "before": round(self.before, 4),
            "nearest": round(self.nearest, 4),
            "single": round(self.single, 4),
        }


def learned(pairs: Iterable[Pair]) -> list[Learned]:
    """Both figures; none where no kind has several runs with both."""
    kinds: dict[Kind, list[tuple[MeasuredSpeed, Pair]]] = defaultdict(list)
    for run, found in pairs:
        if run.tpot and run.throughput:
            between = run.tpot / found.inter_token_latency
            throughput = run.throughput / found.output_tokens_per_second
            kind = _kind(run)
            one = MeasuredSpeed(kind, _load(run), between, throughput, str(run.number))
            kinds[kind].append((one, (run, found)))
    return [
        _errors(name, kinds.values())
        for name in ("between", "throughput")
        if any(len(found) > 1 for found in kinds.values())
    ]


def _errors(name: str, kinds: Iterable[Sequence[tuple[MeasuredSpeed, Pair]]]) -> Learned:
    before, nearest, single = [], [], []
    for measured in kinds:
        for one, _ in measured:
            others = [other for other, _ in measured if other is not one]
            if not others:
                continue
            factor = getattr(one, name)

            def error(known: Sequence[MeasuredSpeed], one: MeasuredSpeed = one) -> float:
                by = correction(known, one.kind, one.load)
                found: float = 1.0 if by is None else getattr(by, name)
                return abs(found / getattr(one, name) - 1)

            before.append(abs(1 / factor - 1))
            nearest.append(error(others))
            single += [error([other]) for other in others]
    return Learned(name, len(before), *map(statistics.median, (before, nearest, single)))


def learned_table(pairs: Iterable[Pair]) -> Table:
    """One line a figure."""
    table = Table(title="Once a server of the kind was measured under another load")
    for title in ("figure", "runs", "before", "by the nearest load", "by any one load"):
        table.add_column(title, justify="left" if title == "figure" else "right", no_wrap=True)
    names = {"between": "time between tokens", "throughput": "output tokens a second"}
    for one in learned(pairs):
        cells = (f"{value:.1%}" for value in (one.before, one.nearest, one.single))
        table.add_row(names[one.figure], str(one.runs), *cells)
    table.caption = "medians of the errors; a kind is a source, model, release, GPU and division"
    return table


def _kind(run: Run) -> Kind:
    split = run.split
    version = f"{run.version} in {run.file}"
    return Kind(run.model, version, run.gpu_name, "", split.tensor, split.pipeline, split.data, "")


def _load(run: Run) -> Load:
    at_once = run.concurrency if math.isfinite(run.concurrency) else run.requests
    return Load(round(run.prompt), round(run.output), max(1, round(min(at_once, run.sequences))))
