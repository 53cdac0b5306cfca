"""Whether an objective is kept, by what was measured, and by what was promised where that is not
enough."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vllm_operator.tuning.comparison import Estimate
from vllm_operator.tuning.intervals import Between
from vllm_operator.tuning.objectives import Kept, Samples

LIMIT = 0.06
BELOW, AT, ABOVE = (0.03, 0.05), (0.05, 0.065), (0.07, 0.09)
"""Surely below the limit, on both sides of it, surely above."""


def estimate(bounds: tuple[float, float]) -> Estimate:
    low, high = bounds
    return Estimate((low + high) / 2, (high - low) / 2)


def kept(
    low: tuple[float, float],
    high: tuple[float, float],
    promised: float | None = None,
    **given: bool,
) -> Kept:
    samples = Samples("gaps", lambda one: None, lambda one: 0.0, promised, lambda said: None)
    flags = {"worse": True, "as_before": False, "better": False, "enough": True, "fair": True}
    return samples._kept(estimate(low), estimate(high), LIMIT, **{**flags, **given})


@pytest.mark.parametrize(
    ("low", "high", "given", "expected"),
    [
        (ABOVE, ABOVE, {}, Kept.BROKEN),
        (ABOVE, ABOVE, {"fair": False}, Kept.BROKEN),
        (ABOVE, ABOVE, {"enough": False}, Kept.OPEN),
        (ABOVE, ABOVE, {"worse": False}, Kept.OPEN),
        (ABOVE, ABOVE, {"worse": False, "as_before": True}, Kept.AS_BEFORE),
        (ABOVE, ABOVE, {"worse": False, "better": True}, Kept.BETTER),
        (AT, ABOVE, {}, Kept.OPEN),
        (BELOW, BELOW, {}, Kept.KEPT),
        (BELOW, BELOW, {"fair": False}, Kept.OPEN),
        (BELOW, BELOW, {"enough": False}, Kept.OPEN),
        (BELOW, AT, {}, Kept.OPEN),
        (BELOW, BELOW, {"better": True}, Kept.KEPT),
        (BELOW, AT, {"better": True}, Kept.BETTER),
        (BELOW, AT, {"better": True, "enough": False}, Kept.BETTER),
        (BELOW, AT, {"as_before": True}, Kept.AS_BEFORE),
        (BELOW, AT, {"as_before": True, "enough": False}, Kept.OPEN),
        (BELOW, AT, {"as_before": True, "better": True}, Kept.BETTER),
    ],
)
def test_what_was_measured_decides(
    low: tuple[float, float], high: tuple[float, float], given: dict[str, bool], expected: Kept
) -> None:
    assert kept(low, high, **given) is expected


@pytest.mark.parametrize(
    ("low", "high", "promised", "given", "expected"),
    [
        (BELOW, AT, LIMIT, {}, Kept.BY_MODEL),
        (BELOW, AT, LIMIT + 0.001, {}, Kept.OPEN),
        (AT, ABOVE, LIMIT, {}, Kept.OPEN),
        (AT, ABOVE, LIMIT, {"enough": False}, Kept.BY_MODEL),
        (AT, ABOVE, LIMIT, {"fair": False}, Kept.BY_MODEL),
        (ABOVE, ABOVE, LIMIT, {"enough": False}, Kept.OPEN),
        (BELOW, BELOW, LIMIT, {"fair": False}, Kept.BY_MODEL),
        (BELOW, AT, LIMIT, {"as_before": True}, Kept.AS_BEFORE),
    ],
)
def test_a_promise_decides_where_the_measurement_does_not_say_no(
    low: tuple[float, float],
    high: tuple[float, float],
    promised: float,
    given: dict[str, bool],
    expected: Kept,
) -> None:
    assert kept(low, high, promised, **given) is expected


def stood(
    own: tuple[float, float],
    stable: tuple[float, float],
    *,
    fair: bool = True,
    finished: float = 1e6,
) -> Kept:
    """How a candidate stands of whose gaps such shares are late, where one in twenty may be."""

    def side(bounds: tuple[float, float]) -> dict[int, list[Any]]:
        late = Between(1e6 * bounds[0], 1e6 * bounds[1])
        return {slot: [SimpleNamespace(late=late, gaps=1e6)] for slot in range(20)}

    seen: Any = SimpleNamespace(
        own=side(own),
        stable=side(stable),
        candidate={slot: one for slot, (one,) in side(own).items()},
        finished=finished,
    )
    trial: Any = SimpleNamespace(objective=SimpleNamespace(share=0.95), in_place=False)
    samples = Samples("gaps", lambda one: one.late, lambda one: one.gaps, None, lambda _: None)  # type: ignore[attr-defined]
    return samples.share(trial, seen, lambda: None, fair=fair).kept


@pytest.mark.parametrize(
    ("own", "stable", "given", "expected"),
    [
        # One in twenty, and a fifth more.
        ((0.04, 0.04), (0.01, 0.01), {}, Kept.KEPT),
        ((0.058, 0.058), (0.01, 0.01), {}, Kept.KEPT),
        ((0.062, 0.062), (0.01, 0.01), {}, Kept.BROKEN),
        ((0.058, 0.058), (0.01, 0.01), {"fair": False}, Kept.OPEN),
        ((0.058, 0.058), (0.01, 0.01), {"finished": 1.0}, Kept.OPEN),
        # Of stable pods that keep it not either it is enough to be no worse, or better.
        ((0.09, 0.09), (0.09, 0.09), {}, Kept.AS_BEFORE),
        ((0.12, 0.12), (0.09, 0.09), {}, Kept.BROKEN),
        ((0.07, 0.07), (0.09, 0.09), {}, Kept.BETTER),
        ((0.09, 0.09), (0.09, 0.09), {"fair": False}, Kept.OPEN),
        # Where those keep it, alike is not enough.
        ((0.055, 0.062), (0.05, 0.05), {}, Kept.OPEN),
    ],
)
def test_a_candidate_stands_by_what_may_be_late_and_by_the_stable_pods_where_those_are(
    own: tuple[float, float],
    stable: tuple[float, float],
    given: dict[str, Any],
    expected: Kept,
) -> None:
    assert stood(own, stable, **given) is expected
