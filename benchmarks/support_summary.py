"""Figures of many forecasts: quantiles, rates with their intervals, and groups."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from support_forecasts import Forecast, forecast
from support_starts import LoggedStart

from vllm_operator import datafiles
from vllm_operator.engine.versions import Version
from vllm_operator.models import catalogue
from vllm_operator.sizing.memory import coefficients


def interval(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a rate."""
    if trials == 0:
        return 0.0, 1.0
    z = 1.959964
    rate, spread = successes / trials, z * z / trials
    centre = rate + spread / 2
    half = z * math.sqrt(rate * (1 - rate) / trials + spread / (4 * trials))
    low, high = (centre - half) / (1 + spread), (centre + half) / (1 + spread)
    return max(0.0, low), min(1.0, high)


def quantile(values: Iterable[float], share: float) -> float | None:
    """The smallest value that ``share`` of them do not exceed; None of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def summary(found: Sequence[Forecast]) -> dict[str, Any]:
    """The figures of some forecasts."""
    compared = [one for one in found if one.scored]
    started = [one for one in found if one.start.started]
    broken = [one for one in compared if one.broken]
    refused = [one for one in found if one.refused]
    errors = [one.error for one in compared]
    shorts = [one.short for one in compared]
    return {
        "starts": len(found),
        "compared": len(compared),
        "errorMedian": statistics.median(errors) if errors else None,
        "errorP90": quantile(errors, 0.9),
        "overPromises": len(broken),
        "overPromiseRate": len(broken) / len(compared) if compared else None,
        "overPromiseInterval": interval(len(broken), len(compared)),
        "shortMedian": statistics.median(shorts) if shorts else None,
        "shortP90": quantile(shorts, 0.9),
        "refused": len(refused),
        "refusedRate": len(refused) / len(started) if started else None,
        "unknownModels": sum(catalogue.find(one.start.model) is None for one in refused),
    }


def groups(
    found: Sequence[Forecast], key: Callable[[LoggedStart], str]
) -> dict[str, dict[str, Any]]:
    """The figures of each group, sorted by name."""
    names = sorted({key(one.start) for one in found})
    return {name: summary([one for one in found if key(one.start) == name]) for name in names}


NEWEST_RELEASES: Final = 3


def before_logs_of(release: str, text: str) -> str:
    """The coefficients without the rows that begin with a release: those before it go on."""
    rows = list(csv.DictReader(io.StringIO(text)))
    first = Version.parse(f"{release}.0").release

    def since(row: Mapping[str, str]) -> tuple[int, ...]:
        return Version.parse(row["since"]).release

    kept = [row for row in rows if since(row) < first]
    for row in kept:
        later = [one for one in kept if one["name"] == row["name"] and since(one) > since(row)]
        if not later:
            row["until"] = ""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(kept)
    return buffer.getvalue()


def residuals(starts: Sequence[LoggedStart]) -> dict[str, float]:
    """GiB of KV cache that the median start of each of the newest releases had beyond ``expected``,
    oldest first, as it was expected before a coefficient began with that release."""
    releases = sorted({minor_version(start) for start in starts})[-NEWEST_RELEASES:]
    text = datafiles.text(coefficients.__package__, "coefficients.csv")
    found = {}
    for release in releases:
        with coefficients.use(before_logs_of(release, text)):
            made = [forecast(one) for one in starts if minor_version(one) == release]
        beyond = [one.measured_gib - one.expected_gib for one in made if one.scored]
        if beyond:
            found[release] = statistics.median(beyond)
    return found


def moved(starts: Sequence[LoggedStart]) -> float:
    """GiB by which the median start of the newest releases moved at most, rounded up to two digits.

    Of a release without a log nobody knows where its median start lies: it may lie below that of
    the newest logged one by as much.
    """
    medians = residuals(starts).values()
    return math.ceil(100 * (max(medians) - min(medians))) / 100


def refusals(found: Sequence[Forecast]) -> dict[str, list[str]]:
    """The starts that went well and would have been refused, by the field that is named."""
    kinds: dict[str, list[str]] = {}
    for one in found:
        if one.refused:
            field = one.problem.partition(":")[0] or "no KV cache is sure"
            kinds.setdefault(field, []).append(one.start.id)
    return kinds


def model_family(start: LoggedStart) -> str:
    """A model's family, by its name."""
    name = start.model.rpartition("/")[2].casefold()
    known = (
        *("deepseek-r1-0528-qwen3", "deepseek-r1-distill-qwen", "codellama", "llama", "llava"),
        *("qwen3.5", "qwen3", "qwen2.5", "qwen2", "gpt-oss", "gemma", "mistral", "minimax"),
        *("kimi", "glm", "dots", "granite", "deepseek"),
    )
    return next((family for family in known if family in name), name)


def minor_version(start: LoggedStart) -> str:
    """``0.11`` of ``0.11.2``, padded to sort."""
    major, minor, *_ = start.version.split(".")
    return f"{major}.{int(minor):02d}"
