"""A number of a plan together with the steps that led to it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from vllm_operator.engine.failures import RepairKind
from vllm_operator.sizing.asked.repairs import Repair

N = TypeVar("N", bound=float)


@dataclass(frozen=True, slots=True)
class Knob(Generic[N]):
    """A value, why it stands there, and the steps before."""

    value: N
    why: str
    before: Knob[N] | None = None
    """The step before; None at the start."""
    source: bool = True
    """Whether ``why`` says all of it, whatever stood there before: a pin, a default, a repair."""
    pinned: bool = False
    """Whether it stays as it is, whatever would move it."""

    @classmethod
    def starting(cls, pin: N | None, field: str, value: N, why: str) -> Knob[N]:
        """The pin of ``spec.engine``'s field, else a value and what it is."""
        if pin is not None:
            return cls(pin, f"pinned in spec.engine.{field}", pinned=True)
        return cls(value, why)

    @property
    def start(self) -> Knob[N]:
        """The last source, before what the search has changed."""
        return self if self.source or self.before is None else self.before.start

    @property
    def reason(self) -> str:
        """The steps from the last source on, the newest first."""
        before = self.before
        if self.source or before is None:
            return self.why
        moved = f"{'lowered' if self.value < before.value else 'raised'} from {before.value}"
        if before.source:
            return f"{moved} ({before.why}): {self.why}"
        return f"{moved}: {self.why}; {before.reason}"

    def at_most(self, value: N, why: str, *, source: bool = False) -> Knob[N]:
        """Lowered to the value where it is larger and not pinned."""
        return self if self.pinned or value >= self.value else self._at(value, why, source)

    def at_least(self, value: N, why: str, *, source: bool = False) -> Knob[N]:
        """Raised to the value where it is smaller and not pinned."""
        return self if self.pinned or value <= self.value else self._at(value, why, source)

    def noted(self, note: str) -> Knob[N]:
        """With more to say of the last step."""
        return replace(self, why=self.why + note)

    def _at(self, value: N, why: str, source: bool) -> Knob[N]:
        """Steps in a row for one reason are one, and none where it leads back."""
        before = self.before if self.before is not None and self.why == why else self
        return before if before.value == value else Knob(value, why, before, source)


def tuned(knob: Knob[N], value: float | None, reason: str) -> Knob[N]:
    """The value that a trial has proven, where there is one and nothing is pinned."""
    if value is None or knob.pinned or value == knob.value:
        return knob
    why = f"tuned from {knob.value:g} to {value:g}: {reason}"
    return Knob(type(knob.value)(value), why, knob)


def repaired(knob: Knob[N], repairs: Collection[Repair], kind: RepairKind) -> Knob[N]:
    """No larger than any repair of that kind has it."""
    for repair in repairs:
        if repair.kind == kind:
            limit = type(knob.value)(repair.limit)
            knob = knob.at_most(limit, repair.reason, source=True)
    return knob
