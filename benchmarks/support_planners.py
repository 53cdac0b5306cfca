"""Every other planner on the same starts, by its formula and as its own package."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from support_forecasts import ROUNDING_GIB, Forecast
from support_peer_packages import PACKAGES, PackageUnavailable, Planner, planners
from support_peers import PEERS
from support_summary import quantile

from vllm_operator.models import catalogue


def starts_of_peers(found: Sequence[Forecast]) -> list[Forecast]:
    """The starts that planners are compared on: they log both weights and KV cache in GiB."""
    return [
        one
        for one in found
        if one.unit == "GiB" and one.measured > 0 and one.start.weights_gib and one.facts
    ]


def peers(found: Sequence[Forecast]) -> list[dict[str, Any]]:
    """Every planner's formula on the starts that log both weights and KV cache in GiB."""
    common = starts_of_peers(found)
    names = {"vllm-operator, expected": "expected", "vllm-operator, low": "low"}
    rows = [
        _peer_row(name, [(getattr(one, attribute), one.measured) for one in common])
        for name, attribute in names.items()
    ]
    for peer in PEERS:
        pairs = [
            (peer.forecast(one.start, one.facts, one.start.weights_gib), one.measured)
            for one in common
            if one.facts and one.start.weights_gib
        ]
        rows.append(_peer_row(peer.name, pairs))
    return rows


def package_rows(planner: Planner, found: Sequence[Forecast]) -> list[dict[str, Any]]:
    """A package on the starts that it answers for, with its own weights and with the measured
    ones, and this project's forecasts of the same starts.
    """
    common = [one for one in starts_of_peers(found) if one.start.id in planner.kv_gib]
    pairs = [(planner.kv_gib[one.start.id], one.measured) for one in common]
    corrected = [
        (kv + planner.weights_gib[one.start.id] - one.start.weights_gib, measured)
        for one, (kv, measured) in zip(common, pairs, strict=True)
        if one.start.id in planner.weights_gib and one.start.weights_gib
    ]
    rows = [_peer_row(planner.name, pairs)]
    if corrected:
        rows.append(_peer_row("the same, given the measured weights", corrected))
    for name in ("expected", "low"):
        ours = [(getattr(one, name), one.measured) for one in common]
        rows.append(_peer_row(f"vllm-operator, {name}", ours))
    return rows


def packages(found: Sequence[Forecast]) -> dict[str, Any]:
    """Other planners as their own packages; what could not be had is listed, never raised."""
    known = [(one.start, catalogue.find(one.start.model)) for one in starts_of_peers(found)]
    asked = [(start, facts) for start, facts in known if facts is not None]
    rows: list[dict[str, Any]] = []
    unanswered: dict[str, dict[str, int]] = {}
    problems: list[str] = []
    for package in PACKAGES:
        try:
            answered = planners(package, asked)
        except PackageUnavailable as problem:
            problems.append(str(problem))
            continue
        for planner in answered:
            rows += package_rows(planner, found)
            unanswered[planner.name] = planner.reasons()
    return {"rows": rows, "unanswered": unanswered, "problems": problems}


def _peer_row(name: str, pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    differences = [expected - measured for expected, measured in pairs]
    relative = [abs(expected - measured) / measured for expected, measured in pairs]
    over = [expected for expected, measured in pairs if expected > measured + ROUNDING_GIB]
    return {
        "planner": name,
        "starts": len(pairs),
        "meanAbsoluteGiB": statistics.fmean(map(abs, differences)) if pairs else None,
        "biasGiB": statistics.fmean(differences) if pairs else None,
        "errorMedian": statistics.median(relative) if pairs else None,
        "errorP90": quantile(relative, 0.9),
        "above": len(over),
    }
