"""What the real engine logs of each step, and what a step of it takes, fitted to that."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

TIMED: Final = {"VLLM_LOGGING_PREFIX": "%(created).6f "}
"""With this variable the log has the time of each line, and not only its second."""
FLAG: Final = "--enable-logging-iteration-details"
_LINE: Final = re.compile(
    r"^(\d+\.\d+) .*Iteration\((\d+)\): (\d+) context requests, (\d+) context tokens, "
    r"(\d+) generation requests, (\d+) generation tokens, .* KV cache usage: ([\d.]+)%",
    re.M,
)


@dataclass(frozen=True, slots=True)
class Step:
    """A step, as vLLM's ``v1/utils.py::compute_iteration_details`` counts it."""

    at: float
    """When the API server was told of it; seconds since the epoch."""
    number: int
    sequences: int
    decoding: int
    """Of these, those that had generated something before."""
    tokens: int
    """Computed, of prompts too."""
    usage: float
    """Share of the KV cache that is held."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What a step takes, in seconds: each one of it, and each of what is in it."""

    step: float
    sequence: float
    token: float

    def of(self, sequences: int, tokens: int) -> float:
        """Seconds of a step."""
        return self.step + self.sequence * sequences + self.token * tokens


def logged(text: str) -> list[Step]:
    """The steps in a log, in the order in which they were taken."""
    found = []
    for line in _LINE.findall(text):
        prompting, prompts, decoding, decodes = map(int, line[2:6])
        found.append(
            Step(
                at=float(line[0]),
                number=int(line[1]),
                sequences=prompting + decoding,
                decoding=decoding,
                tokens=prompts + decodes,
                usage=float(line[6]) / 100,
            )
        )
    return found


def timed(steps: Sequence[Step]) -> list[tuple[Step, float]]:
    """Steps that followed on another at once, and the seconds from its end to theirs.

    Who decodes was in the step before, so the engine did not rest between the two.
    """
    return [
        (step, step.at - before.at)
        for before, step in pairwise(steps)
        if step.decoding and step.number == before.number + 1
    ]


def fitted(steps: Sequence[tuple[Step, float]]) -> Costs:
    """The costs with the least squared error, none of them below zero. Raises ValueError."""
    if not steps:
        raise ValueError("no step followed on another: what a step takes cannot be told")
    rows = [(1.0, float(step.sequences), float(step.tokens)) for step, _ in steps]
    seconds = [one for _, one in steps]
    kept = [0, 1, 2]
    while True:
        found = _solved(rows, seconds, kept)
        if min(found) >= 0.0 or len(kept) == 1:
            break
        kept.remove(kept[found.index(min(found))])
    values = dict(zip(kept, found, strict=True))
    return Costs(*(max(0.0, values.get(place, 0.0)) for place in range(3)))


def _solved(
    rows: Sequence[Sequence[float]], wanted: Sequence[float], kept: Sequence[int]
) -> list[float]:
    """Least squares over some of the columns, by the normal equations; 0 for a column that others
    make up."""
    size = len(kept)
    table = [
        [sum(row[one] * row[other] for row in rows) for other in kept]
        + [sum(row[one] * value for row, value in zip(rows, wanted, strict=True))]
        for one in kept
    ]
    for place in range(size):
        pivot = table[place][place]
        if pivot <= 1e-9 * sum(row[kept[place]] ** 2 for row in rows):
            table[place] = [float(place == other) for other in range(size)] + [0.0]
            pivot = 1.0
        table[place] = [value / pivot for value in table[place]]
        for other in range(size):
            if other != place:
                factor = table[other][place]
                table[other] = [
                    mine - factor * its
                    for mine, its in zip(table[other], table[place], strict=True)
                ]
    return [row[size] for row in table]
