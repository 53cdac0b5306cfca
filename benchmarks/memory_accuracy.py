"""How well the memory model foretells real starts of vLLM, beside what other planners publish.

    PYTHONPATH=operator:tools python benchmarks/memory_accuracy.py

Each start whose log was published is planned with everything pinned as it ran, and the plan's KV
cache is compared with the one that vLLM found. Coefficients are fitted afresh for each of ten folds
on the starts of other sources only (``--in-sample`` takes them as they stand), once more for ten
folds of models, and once for the ten newest sources together. What is fitted is left out of sight,
the structure is not: its closed forms were chosen with all rows in view. Prints tables and writes
build/benchmarks/memory_accuracy.json and .svg.
"""

from __future__ import annotations

import importlib
import json
import random
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from support_forecasts import Forecast, forecast
from support_logs import LOGS, Class, classify, read_rows
from support_memory_view import TARGETS, picture, show
from support_planners import packages, peers
from support_starts import LoggedStart
from support_summary import (
    groups,
    minor_version,
    model_family,
    moved,
    refusals,
    residuals,
    summary,
)

from vllm_operator.engine.versions import Version
from vllm_operator.sizing.memory import coefficients

FOLDS: Final = 10
NEWEST_SOURCES: Final = 10
RESULT: Final = Path("build/benchmarks/memory_accuracy.json")
PICTURE: Final = RESULT.with_suffix(".svg")

Fit = Callable[[Sequence[LoggedStart]], str]
Key = Callable[[LoggedStart], str]
Use = Callable[[str], AbstractContextManager[Any]]


def source_key(start: LoggedStart) -> str:
    """What no two folds share where sources are held out."""
    return start.source


def folds(
    starts: Sequence[LoggedStart], count: int, seed: int, key: Key = source_key
) -> list[list[LoggedStart]]:
    """The starts in ``count`` parts of about one size; no key stands in two of them."""
    by_key: dict[str, list[LoggedStart]] = {}
    for start in starts:
        by_key.setdefault(key(start), []).append(start)
    keys = sorted(by_key)
    random.Random(seed).shuffle(keys)
    keys.sort(key=lambda one: -len(by_key[one]))
    parts: list[list[LoggedStart]] = [[] for _ in range(count)]
    for one in keys:
        min(parts, key=len).extend(by_key[one])
    return [part for part in parts if part]


def held_out(
    starts: Sequence[LoggedStart],
    parts: Sequence[Sequence[LoggedStart]],
    fit: Fit,
    use: Use,
    key: Key = source_key,
) -> list[Forecast]:
    """Forecasts of the starts in ``parts``, each by coefficients that no start of one of its part's
    keys went into; in the order of ``starts``."""
    found: dict[str, Forecast] = {}
    for part in parts:
        unseen = {key(start) for start in part}
        with use(fit([start for start in starts if key(start) not in unseen])):
            found |= {start.id: forecast(start) for start in part}
    return [found[start.id] for start in starts if start.id in found]


def cross_validated(
    starts: Sequence[LoggedStart], fit: Fit, use: Use, seed: int, key: Key = source_key
) -> list[Forecast]:
    """Forecasts of every start, each by coefficients that no start of its key went into."""
    return held_out(starts, folds(starts, FOLDS, seed, key), fit, use, key)


def newest_sources(starts: Sequence[LoggedStart], count: int) -> list[LoggedStart]:
    """The starts of the ``count`` sources whose newest start is of the newest releases."""
    newest: dict[str, tuple[int, ...]] = {}
    for start in starts:
        release = Version.parse(start.version).release
        newest[start.source] = max(newest.get(start.source, ()), release)
    ranked = sorted(newest, key=lambda source: (newest[source], source), reverse=True)[:count]
    return [start for start in starts if start.source in ranked]


def fitting() -> tuple[Fit, Use]:
    """The project's fitting script; raises ``ClickException`` where it is missing."""
    try:
        module = importlib.import_module("fitting.fit_memory")
        fit: Fit = module.fit
        use: Use = vars(coefficients)["use"]
    except (ImportError, AttributeError, KeyError) as problem:
        raise click.ClickException(
            "tools/fitting/fit_memory.py or coefficients.use is missing; "
            "give --in-sample to take the coefficients as they stand"
        ) from problem
    return fit, use


def _row(one: Forecast, reason: str = "") -> dict[str, Any]:
    start = {name: value for name, value in asdict(one.start).items() if value not in (None, "")}
    compared = {"error": one.error, "short": one.short, "broken": one.broken} if one.scored else {}
    return {
        **start,
        "reason": reason,
        "problem": one.problem,
        "refused": one.refused,
        "unit": one.unit,
        "expected": one.expected,
        "low": one.low,
        "measured": one.measured,
        "forecastWeightsGiB": one.weights_gib,
        **compared,
    }


@click.command()
@click.option(
    "--rows",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=LOGS,
    help="Logged starts to score, another file of the same columns.",
)
@click.option("--in-sample", is_flag=True, help="Take the coefficients as they stand.")
@click.option("--seed", default=1, show_default=True, help="Seed of the division into folds.")
@click.option(
    "--packages",
    "ask_packages",
    is_flag=True,
    help="Ask other planners' own packages, too: installs them once, each apart.",
)
def main(file: Path, in_sample: bool, seed: int, ask_packages: bool) -> None:
    """Score the memory model on logged starts; exit status 1 where a target is missed."""
    classified = classify(read_rows(file))
    starts = [one.start for one in classified if one.kind is Class.SCORED and one.start]
    elsewhere = {}
    if in_sample:
        found = [forecast(start) for start in starts]
    else:
        fit, use = fitting()
        found = cross_validated(starts, fit, use, seed)
        by_model = cross_validated(starts, fit, use, seed, model_family)
        newest = held_out(starts, [newest_sources(starts, NEWEST_SOURCES)], fit, use)
        elsewhere = {"models": summary(by_model), "newestSources": summary(newest)}
    total = summary(found)
    results = {
        "coefficients": "coefficients as they stand" if in_sample else "cross-validated by source",
        "summary": total,
        "heldOut": {"sources": total, **elsewhere},
        "refusals": refusals(found),
        "targets": TARGETS,
        "byModel": groups(found, model_family),
        "byGPU": groups(found, lambda start: start.gpu_family),
        "byVersion": groups(found, minor_version),
        "residualGiB": residuals(starts),
        "movedGiB": moved(starts),
        "byEngine": groups(found, lambda start: start.engine),
        "peers": peers(found),
        "packages": packages(found) if ask_packages else None,
        "starts": [_row(one) for one in found],
        "apart": [
            _row(forecast(one.start), one.reason)
            for one in classified
            if one.kind is Class.APART and one.start
        ],
        "leftOut": {one.id: one.reason for one in classified if one.kind is Class.LEFT_OUT},
    }
    show(Console(), classified, results)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    PICTURE.write_text(picture(found), encoding="utf-8")
    missed = [name for name, limit in TARGETS.items() if (total[name] or 0.0) > limit]
    sys.exit(int(bool(missed) or total["compared"] == 0))


if __name__ == "__main__":
    main()
