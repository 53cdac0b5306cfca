"""What arrives: the same requests whatever the setting, drawn from a workload's name."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

POOL: Final = 1 << 14
"""Lengths that a closed phase's clients draw from, in turn."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lognormal lengths in tokens. ``sigma`` is that of the logarithm."""

    prompt_mean: float
    prompt_sigma: float
    output_mean: float
    output_sigma: float

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Lengths:
        """From a workload's ``lengths``."""
        prompt, output = told["prompt"], told["output"]
        return cls(
            prompt["mean"], prompt.get("sigma", 0.0), output["mean"], output.get("sigma", 0.0)
        )

    def draw(self, source: random.Random, longest: int, shared: int) -> tuple[int, int]:
        """A prompt and an output, that fit together into ``longest`` tokens; the prompt is longer
        than the prefix that all share."""
        prompt = _lognormal(source, self.prompt_mean, self.prompt_sigma)
        output = _lognormal(source, self.output_mean, self.output_sigma)
        prompt = max(prompt, shared + 1)
        output = min(output, longest // 2)
        return min(prompt, longest - output), output


def _lognormal(source: random.Random, mean: float, sigma: float) -> int:
    """A length of that mean, at least 1."""
    centre = math.log(mean) - sigma * sigma / 2
    return max(1, round(math.exp(source.gauss(centre, sigma) if sigma else centre)))


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request of an open phase."""

    sent: float
    """Seconds since the simulation's start."""
    prompt: int
    output: int
    ticket: float
    """In [0, 1): the pod whose share it falls into gets the request."""


@dataclass(frozen=True, slots=True)
class Phase:
    """Some minutes of arrivals of one kind."""

    start: float
    """Seconds."""
    end: float
    arrivals: tuple[Arrival, ...]
    """Of an open phase."""
    clients: int
    """Of a closed one, over all pods."""
    pool: tuple[tuple[int, int], ...]
    """Prompts and outputs of a closed phase."""

    def between(self, start: float, end: float) -> Sequence[Arrival]:
        """The arrivals of a while."""
        low = _place(self.arrivals, start)
        return self.arrivals[low : _place(self.arrivals, end)]


def _place(arrivals: Sequence[Arrival], time: float) -> int:
    low, high = 0, len(arrivals)
    while low < high:
        middle = (low + high) // 2
        if arrivals[middle].sent < time:
            low = middle + 1
        else:
            high = middle
    return low


def phases(workload: Mapping[str, Any], longest: int, *, share: float = 1.0) -> tuple[Phase, ...]:
    """A workload's arrivals; with ``share`` of each phase's time, from its start.

    Raises ``ValueError`` where the phases' minutes are not the workload's.
    """
    told = workload["arrivals"]
    if sum(one["minutes"] for one in told) != workload["minutes"]:
        raise ValueError(f"{workload['name']}: the phases' minutes do not add up")
    found, start = [], 0.0
    for number, one in enumerate(told):
        own = one.get("lengths") or workload["lengths"]
        shared = int(own.get("sharedPrefix", workload["lengths"].get("sharedPrefix", 0)))
        lengths = Lengths.of({**workload["lengths"], **own})
        end = start + 60.0 * one["minutes"] * share
        source = random.Random(f"{workload['name']} {number}")
        arrivals: list[Arrival] = []
        pool: tuple[tuple[int, int], ...] = ()
        clients = 0
        if one["kind"] == "poisson":
            time = start
            while (time := time + source.expovariate(one["requestsPerSecond"])) < end:
                pair = lengths.draw(source, longest, shared)
                arrivals.append(Arrival(time, *pair, source.random()))
        elif one["kind"] == "closed":
            clients = int(one["clients"])
            pool = tuple(lengths.draw(source, longest, shared) for _ in range(POOL))
        else:
            raise ValueError(f"{workload['name']}: no arrivals of kind {one['kind']!r}")
        found.append(Phase(start, end, tuple(arrivals), clients, pool))
        start = end
    return tuple(found)


def dealt(clients: int, shares: Sequence[float]) -> list[int]:
    """Clients by share, whole ones: the largest remainders get those that are left."""
    exact = [clients * share / sum(shares) for share in shares]
    found = [int(one) for one in exact]
    order = sorted(range(len(exact)), key=lambda place: found[place] - exact[place])
    for place in order[: clients - sum(found)]:
        found[place] += 1
    return found
