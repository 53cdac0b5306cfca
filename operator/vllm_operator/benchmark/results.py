"""What was measured, with the plan that served it: read from a log, kept, and read again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from pydantic import ValidationError

from vllm_operator.api.plan import Plan
from vllm_operator.errors import InputError

from .jobs import marked
from .load import Load, Point

MARK: Final = "vllm-operator-benchmark "
"""Begins each line of the log that is read; ``scripts/measure.py`` writes it."""
SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a run, by vLLM's name of it."""

    name: str
    label: str
    unit: str
    more_is_better: bool
    predicted: str | None = None
    """Field of the plan's performance that says the same."""

    def percentile(self, percent: int) -> str | None:
        """vLLM's name of a percentile of a latency; None of what has none."""
        if not self.name.startswith("mean_"):
            return None
        return self.name.replace("mean_", f"p{percent}_")


OUTPUT: Final = Figure("output_throughput", "output tokens/s", "", True, "output_tokens_per_second")
REQUESTS: Final = Figure("request_throughput", "requests/s", "", True, "requests_per_second")
TTFT: Final = Figure("mean_ttft_ms", "time to first token", "ms", False, "time_to_first_token")
TPOT: Final = Figure("mean_tpot_ms", "time per output token", "ms", False, "inter_token_latency")
ITL: Final = Figure("mean_itl_ms", "between tokens", "ms", False)
E2E: Final = Figure("mean_e2el_ms", "end to end", "ms", False)
FIGURES: Final = (OUTPUT, REQUESTS, TTFT, TPOT, ITL, E2E)
JUDGED: Final = (OUTPUT, TTFT, TPOT, E2E)
"""What a verdict rests on: the others follow from these."""

Run = Mapping[str, float | None]
"""Figures of one run by vLLM's names; None where it has none."""
Prediction = Mapping[str, float]
"""Figures by vLLM's names, in its units, as the plan expects them."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One load and its runs."""

    point: Point
    runs: tuple[Run, ...]
    predicted: Prediction | None = None

    def values(self, name: str) -> list[float]:
        """A figure of each run that has it."""
        found = (run.get(name) for run in self.runs)
        return [one for one in found if one is not None]

    @property
    def failed(self) -> int:
        """Requests that failed, of all runs: versions without the figure leave them out."""
        done = sum(int(run.get("completed") or 0) for run in self.runs)
        return max(0, len(self.runs) * self.point.prompts - done)


@dataclass(frozen=True, slots=True)
class Result:
    """One benchmark of one server."""

    name: str
    namespace: str
    server: str
    at: str
    """When it began (RFC 3339)."""
    replicas: int
    load: Load
    plan: Plan
    points: tuple[Measured, ...] = field(default=())

    @property
    def title(self) -> str:
        """How it is named on the command line."""
        return f"{self.server}/{self.name}"

    def to_json_object(self) -> dict[str, Any]:
        """As it is kept and printed. Latencies are milliseconds, as in vLLM's own result."""
        return {
            "schemaVersion": SCHEMA,
            "name": self.name,
            "namespace": self.namespace,
            "server": self.server,
            "at": self.at,
            "replicas": self.replicas,
            "load": self.load.to_json_object(),
            "plan": self.plan.to_json_object(),
            "points": [
                {
                    **one.point.to_json_object(),
                    "predicted": None if one.predicted is None else dict(one.predicted),
                    "runs": [dict(run) for run in one.runs],
                }
                for one in self.points
            ],
        }

    @classmethod
    def from_json_object(cls, found: Mapping[str, Any]) -> Self:
        """As it was kept. Raises ``InputError`` for anything else."""
        try:
            if found["schemaVersion"] != SCHEMA:
                raise InputError(
                    f"a result of schema {found['schemaVersion']}; this release reads {SCHEMA}"
                )
            load = found["load"]
            return cls(
                name=str(found["name"]),
                namespace=str(found["namespace"]),
                server=str(found["server"]),
                at=str(found["at"]),
                replicas=_whole(found["replicas"]),
                load=Load(
                    _whole(load["promptTokens"]),
                    _whole(load["outputTokens"]),
                    _whole(load["sharedPrefixTokens"]),
                ),
                plan=Plan.model_validate(found["plan"]),
                points=tuple(map(_measured, found["points"])),
            )
        except (KeyError, TypeError, ValueError, AttributeError, ValidationError) as problem:
            raise InputError(f"no result of a benchmark: {problem!r:.200}") from problem


def _measured(found: Mapping[str, Any]) -> Measured:
    at_once, rate, predicted = found["concurrency"], found["requestRate"], found["predicted"]
    point = Point(
        _whole(found["prompts"]),
        None if at_once is None else _whole(at_once),
        None if rate is None else _number(rate),
    )
    runs = tuple(
        {str(name): None if value is None else _number(value) for name, value in run.items()}
        for run in found["runs"]
    )
    told = None
    if predicted is not None:
        known = {name: value for name, value in predicted.items() if value is not None}
        told = {str(name): _number(value) for name, value in known.items()}
    return Measured(point, runs, told)


def _whole(value: Any) -> int:
    """A whole number that is one; anything that can write a ConfigMap has written this."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r:.40} is no whole number")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{value!r:.40} is no number")
    return value


def lean(plan: Plan) -> Plan:
    """A plan without what no comparison reads: facts, reasons, and layouts that were not taken."""
    return plan.model_copy(
        update={
            "model": plan.model.model_copy(update={"facts": {}}),
            "flags": [one.model_copy(update={"reason": ""}) for one in plan.flags],
            "rejected": [],
            "problems": [],
        }
    )


@dataclass(frozen=True, slots=True)
class Progress:
    """What a log says so far."""

    state: str = "starts"
    number: int = 0
    of: int = 0
    done: bool = False
    result: Result | None = None
    """With the runs so far."""


def read_log(text: str) -> Progress:
    """What the marked lines of a Job's log say. Raises ``InputError`` where one cannot be read."""
    about: Mapping[str, Any] | None = None
    runs: list[Mapping[str, Any]] = []
    state, number, of, done = "starts", 0, 0, False
    for record in marked(text, MARK):
        about = record.get("begin", about)
        runs += [record["run"]] if "run" in record else []
        state = record.get("state", state)
        number, of = record.get("number", number), record.get("of", of)
        done = done or record.get("end") is True
    return Progress(state, number, of, done, None if about is None else _with_runs(about, runs))


def _with_runs(about: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> Result:
    points = [
        {**point, "runs": [run["figures"] for run in runs if run["point"] == number]}
        for number, point in enumerate(about["points"])
    ]
    return Result.from_json_object({**about, "points": points})
