"""What a check before production says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """How a check ended, the better first."""

    PASS = "pass"
    SKIP = "skip"
    """It could not be judged; why says what is missing."""
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the list."""

    name: str
    outcome: Outcome
    why: str
    """With the numbers that it rests on."""
    field: str = ""
    """What changes it: a path in the specification, or a value of the chart."""

    def to_json_object(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "check": self.name,
            "outcome": self.outcome.value,
            "why": self.why,
            "field": self.field or None,
        }


def passed(name: str, why: str, field: str = "") -> Check:
    """It is as it should be."""
    return Check(name, Outcome.PASS, why, field)


def warned(name: str, why: str, field: str) -> Check:
    """It serves, and somebody should know."""
    return Check(name, Outcome.WARN, why, field)


def failed(name: str, why: str, field: str) -> Check:
    """It is not fit for production."""
    return Check(name, Outcome.FAIL, why, field)


def skipped(name: str, why: str, field: str = "") -> Check:
    """It could not be judged."""
    return Check(name, Outcome.SKIP, why, field)


def any_failed(checks: Iterable[Check], *, strict: bool = False) -> bool:
    """Whether a check failed; ``strict``: or warned."""
    bad = {Outcome.FAIL, Outcome.WARN} if strict else {Outcome.FAIL}
    return any(one.outcome in bad for one in checks)
