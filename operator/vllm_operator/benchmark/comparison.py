"""Two results side by side: what changed in the plan, what in the figures, and what is noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from vllm_operator.sizing.plan.difference import plan_difference

from .load import Point
from .results import FIGURES, JUDGED, OUTPUT, Figure, Measured, Result
from .statistics import Change, Spread, change, spread

Verdict = Literal["better", "worse", "no difference", "unknown"]
NOISE: Final = "no difference beyond noise"


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure under one load."""

    figure: Figure
    before: Spread
    after: Spread
    change: Change | None
    """None where it was measured once only, or is nothing."""

    @property
    def verdict(self) -> Verdict:
        """What the second result is to the first."""
        if self.change is None:
            return "unknown"
        if not self.change.is_beyond_noise:
            return "no difference"
        more = self.change.share > 0.0
        return "better" if more == self.figure.more_is_better else "worse"

    @property
    def interval(self) -> str:
        """The change with its interval, in words."""
        if self.change is None:
            share = self.after.mean / self.before.mean - 1.0 if self.before.mean > 0 else 0.0
            return f"{share:+.1%}, not judged"
        found = self.change
        return f"{found.share:+.1%} ({found.low:+.1%} to {found.high:+.1%})"


@dataclass(frozen=True, slots=True)
class Compared:
    """One load that both were measured under."""

    point: Point
    before: Measured
    after: Measured
    differences: tuple[Difference, ...]

    def of(self, figure: Figure) -> Difference | None:
        """The difference of a figure; None where one of both lacks it."""
        return next((one for one in self.differences if one.figure is figure), None)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The second result beside the first."""

    before: Result
    after: Result
    plan: str | None
    """What changed in the plan; None where both do the same."""
    points: tuple[Compared, ...]
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """One sentence: which is better, in what and by how much, or that none is."""
        name = self.after.title
        judged = list(self._judged())
        if not judged:
            return "no verdict: the two have no load in common"
        if all(one.verdict == "unknown" for _, one in judged):
            return (
                "no verdict: one run says nothing of noise; measure both with --repeats 3 or more"
            )
        better, worse = self._told("better"), self._told("worse")
        failed = self._failures()
        if better and not worse:
            text = f"{name} is better: {'; '.join(better)}"
            return f"{text}. But {failed}" if failed else text
        if worse and not better:
            return f"{name} is worse: {'; '.join(worse)}"
        if better and worse:
            return f"{name} gives one for another: {'; '.join(better)}; but {'; '.join(worse)}"
        least = max(max(-one.low, one.high) for one in self._changes())
        text = f"{NOISE}: a change of more than {least:.1%} would have been seen in any figure"
        return f"{text}. But {failed}" if failed else text

    def _judged(self) -> Iterator[tuple[Point, Difference]]:
        for one in self.points:
            for figure in JUDGED:
                # At a rate of requests, throughput is what is asked, until the server falls behind.
                found = one.of(figure)
                if found is not None and not (figure is OUTPUT and one.point.concurrency is None):
                    yield one.point, found

    def _told(self, verdict: Verdict) -> list[str]:
        """Load by load, the judged figures that are so."""
        found: dict[Point, list[str]] = {}
        for point, one in self._judged():
            if one.verdict == verdict:
                found.setdefault(point, []).append(f"{one.figure.label} {one.interval}")
        return [f"{', '.join(figures)} with {point}" for point, figures in found.items()]

    def _changes(self) -> Iterator[Change]:
        return (one.change for _, one in self._judged() if one.change is not None)

    def _failures(self) -> str | None:
        more = [one for one in self.points if one.after.failed > one.before.failed]
        if not more:
            return None
        said = ", ".join(
            f"{one.after.failed} (before: {one.before.failed}) with {one.point}" for one in more
        )
        return f"requests of it failed: {said}"

    def to_json_object(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "before": self.before.title,
            "after": self.after.title,
            "verdict": self.verdict,
            "plan": self.plan,
            "notes": list(self.notes),
            "points": [
                {
                    **one.point.to_json_object(),
                    "figures": {
                        each.figure.name: {
                            "before": each.before.mean,
                            "after": each.after.mean,
                            "change": None
                            if each.change is None
                            else {
                                "share": each.change.share,
                                "low": each.change.low,
                                "high": each.change.high,
                            },
                            "verdict": each.verdict,
                        }
                        for each in one.differences
                    },
                }
                for one in self.points
            ],
        }


def compare(before: Result, after: Result) -> Comparison:
    """The second beside the first, load by load.

    Figures of other lengths are not laid side by side. All intervals of the figures that are judged
    hold together at 95 %.
    """
    notes: list[str] = []
    pairs: list[tuple[Measured, Measured]] = []
    if before.load != after.load:
        notes.append(
            f"{before.title} was measured with {before.load}, {after.title} with {after.load}: "
            "their figures cannot be compared; measure one again with the lengths of the other"
        )
    else:
        pairs = [
            (one, other)
            for one in before.points
            for other in after.points
            if _key(one.point) == _key(other.point)
        ]
        notes += _alone(before, [one for one, _ in pairs])
        notes += _alone(after, [other for _, other in pairs])
    if before.replicas != after.replicas:
        notes.append(f"replicas {before.replicas} -> {after.replicas}")
    judged = len(JUDGED) * max(1, len(pairs))
    points = tuple(
        Compared(one.point, one, other, tuple(_differences(one, other, judged)))
        for one, other in pairs
    )
    changed = plan_difference(before.plan, after.plan)
    return Comparison(before, after, changed, points, tuple(notes))


def _key(point: Point) -> tuple[int | None, float | None]:
    return point.concurrency, point.request_rate


def _alone(result: Result, paired: Sequence[Measured]) -> Iterator[str]:
    left = [str(one.point) for one in result.points if one not in paired]
    if left:
        yield f"{result.title} alone was measured with {', '.join(left)}"


def _differences(before: Measured, after: Measured, judged: int) -> Iterator[Difference]:
    for figure in FIGURES:
        runs = before.values(figure.name), after.values(figure.name)
        first, second = map(spread, runs)
        if first is not None and second is not None:
            yield Difference(figure, first, second, change(*runs, judged))
