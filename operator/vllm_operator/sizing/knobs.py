"""A number of a plan together with the steps that led to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

N = TypeVar("N", bound=float)


@dataclass(frozen=True, slots=True)
class Step(Generic[N]):
    """A value that stood there, and why."""

    value: N
    why: str
    source: bool = False
    """Whether ``why`` says all of it, whatever stood there before: a pin, a default, a repair."""


@dataclass(frozen=True, slots=True)
class Knob(Generic[N]):
    """Steps to a value, the first of them a source."""

    steps: tuple[Step[N], ...]
    pinned: bool = False
    """Whether it stays as it is, whatever would move it."""

    @classmethod
    def starting(cls, pin: N | None, field: str, value: N, why: str) -> Knob[N]:
        """The pin of ``spec.engine``'s field, else a value and what it is."""
        if pin is not None:
            return cls((Step(pin, f"pinned in spec.engine.{field}", source=True),), pinned=True)
        return cls((Step(value, why, source=True),))

    @property
    def value(self) -> N:
        """What it is now."""
        return self.steps[-1].value

    @property
    def source(self) -> Step[N]:
        """Where it started, after what was learned."""
        return next(step for step in reversed(self.steps) if step.source)

    @property
    def reason(self) -> str:
        """The steps from the last source on, the newest first."""
        step = self.steps[-1]
        if step.source:
            return step.why
        before = replace(self, steps=self.steps[:-1])
        moved = "lowered" if step.value < before.value else "raised"
        if before.steps[-1].source:
            return f"{moved} from {before.value} ({before.reason}): {step.why}"
        return f"{moved} from {before.value}: {step.why}; {before.reason}"

    def at_most(self, value: N, why: str, *, source: bool = False) -> Knob[N]:
        """Lowered to the value where it is larger and not pinned."""
        return self if self.pinned or value >= self.value else self._at(Step(value, why, source))

    def at_least(self, value: N, why: str, *, source: bool = False) -> Knob[N]:
        """Raised to the value where it is smaller and not pinned."""
        return self if self.pinned or value <= self.value else self._at(Step(value, why, source))

    def noted(self, note: str) -> Knob[N]:
        """With more to say of the last step."""
        last = self.steps[-1]
        return replace(self, steps=(*self.steps[:-1], replace(last, why=last.why + note)))

    def _at(self, step: Step[N]) -> Knob[N]:
        """Steps in a row for one reason are one, and none where it leads back."""
        before = self.steps
        if before[-1].why == step.why:
            before = before[:-1]
        if before[-1].value == step.value and not step.source:
            return replace(self, steps=before)
        return replace(self, steps=(*before, step))
