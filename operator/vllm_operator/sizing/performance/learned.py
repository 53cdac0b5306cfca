"""What running servers were measured to do, and what the next estimate makes of it. Pure.

An estimate errs alike for loads that are alike: where a server of the kind (model, release, GPU,
division) was measured, the measurement over the estimate of that load is what the next estimate is
corrected by, the less the further its load is from the measured one. Both were chosen on the runs
that the coefficients are fitted to, and judged on newer sources (``performance_accuracy.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, NamedTuple

from vllm_operator.api.canonical import digest

KEPT_AS: Final = "speed."
"""How the keys begin under which measurements are kept."""
FURTHEST: Final = 3.0
"""Distance beyond which a measurement says nothing: its weight is below a thousandth."""
LONGEST_TIME: Final = 40
"""Characters of a time."""
LARGEST: Final = 100.0
"""A factor beyond it, or below its inverse, is no error of an estimate but another server."""


class Load(NamedTuple):
    """What was asked of one replica."""

    prompt_tokens: int
    output_tokens: int
    concurrency: int

    def distance(self, other: Load) -> float:
        """Root of the squares of the logarithms of what they differ by."""
        return math.dist([math.log(one) for one in self], [math.log(one) for one in other])


class Kind(NamedTuple):
    """What a measurement holds for."""

    model: str
    version: str
    gpu: str
    engine: str
    """``engine_digest`` of the fields of ``spec.engine`` that are no limits: data types, drafts."""
    tensor: int
    pipeline: int
    data: int
    estimate: str
    """Fingerprint of the coefficients: errors of other ones say nothing of these."""


@dataclass(frozen=True, slots=True)
class MeasuredSpeed:
    """One load of one server: measured over estimated, without any correction."""

    kind: Kind
    load: Load
    between: float
    """Of the time between tokens."""
    throughput: float
    """Of the output tokens a second."""
    at: str
    """When, RFC 3339."""

    @property
    def key(self) -> str:
        """Where it is kept in a ConfigMap: a later one of the kind and load takes its place."""
        return KEPT_AS + digest([list(self.kind), list(self.load)], 32)

    def to_json_object(self) -> dict[str, Any]:
        """The measurement as plain JSON."""
        document = asdict(self)
        return {**document, "kind": list(self.kind), "load": list(self.load)}

    @classmethod
    def from_json_object(cls, document: Mapping[str, Any]) -> MeasuredSpeed:
        """The inverse of ``to_json_object``. Raises KeyError, TypeError, ValueError."""
        unknown = document.keys() - {one.name for one in fields(cls)}
        if unknown:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
        model, version, gpu, engine, tensor, pipeline, data, estimate = document["kind"]
        words = (str(model), str(version), str(gpu), str(engine))
        sizes = (int(tensor), int(pipeline), int(data))
        load = Load(*(int(one) for one in document["load"]))
        at = str(document["at"])
        if len(at) > LONGEST_TIME:
            raise ValueError(f"{at!r:.40} is no time")
        if min(load) < 1:
            raise ValueError(f"{load} is no load")
        return cls(
            kind=Kind(*words, *sizes, str(estimate)),
            load=load,
            between=_factor(document["between"]),
            throughput=_factor(document["throughput"]),
            at=at,
        )


@dataclass(frozen=True, slots=True)
class Correction:
    """What an estimate is multiplied by."""

    between: float
    throughput: float
    at: str
    """When the measurement was made on which it rests."""


def of_model(measured: Iterable[MeasuredSpeed], model: str) -> tuple[MeasuredSpeed, ...]:
    """The measurements of a model, in their order."""
    return tuple(one for one in measured if one.kind.model == model)


def correction(measured: Iterable[MeasuredSpeed], kind: Kind, load: Load) -> Correction | None:
    """What the nearest measurement of the kind corrects an estimate of a load by; None of none.

    Its factors to the power of exp(-d²), d being the distance between the loads; of several at the
    same distance the newest.
    """
    near = [(one.load.distance(load), one) for one in measured if one.kind == kind]
    if not near:
        return None
    least = min(distance for distance, _ in near)
    if least > FURTHEST:
        return None
    taken = max((one for distance, one in near if distance == least), key=lambda one: one.at)
    weight = math.exp(-least * least)
    return Correction(taken.between**weight, taken.throughput**weight, taken.at)


def _factor(value: Any) -> float:
    number = float(value)
    if isinstance(value, (bool, str)) or not 1.0 / LARGEST < number < LARGEST:
        raise ValueError(f"{value!r} is no error of an estimate")
    return number
