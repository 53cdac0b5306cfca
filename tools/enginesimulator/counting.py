"""What an engine counts: histograms as vLLM observes them, and the samples that are scraped."""

from __future__ import annotations

from . import state as at
from .compiled import compiled
from .state import State


@compiled
def bucket(s: State, histogram: int, value: float) -> int:
    """The first bucket whose edge is not below the value."""
    low = s.starts[histogram]
    start, high = low, s.starts[histogram + 1]
    while low < high:
        middle = (low + high) // 2
        if s.edges[middle] < value:
            low = middle + 1
        else:
            high = middle
    return int(low - start)


@compiled
def observe(s: State, histogram: int, value: float, count: int) -> None:
    """Counts a value so many times."""
    start = s.starts[histogram] + 2 * histogram
    s.histograms[start + bucket(s, histogram, value)] += count
    s.histograms[s.starts[histogram + 1] + 2 * histogram + 1] += value * count


@compiled
def gap(s: State, seconds: float, count: int) -> None:
    """Counts times between two tokens."""
    observe(s, at.GAP, seconds, count)
    if seconds > s.floats[at.GAP_OBJECTIVE]:
        s.ints[at.SLOW_GAPS] += count


@compiled
def sample(s: State, until: float, running: int, waiting: int, free: int) -> None:
    """Writes the samples that are due up to a time."""
    wide = at.GAUGES + len(at.COUNTED) + len(s.histograms)
    while s.floats[at.NEXT_SAMPLE] <= until:
        place = s.ints[at.SAMPLES] * wide
        s.samples[place] = s.floats[at.NEXT_SAMPLE]
        s.samples[place + 1] = running
        s.samples[place + 2] = waiting
        s.samples[place + 3] = 1.0 - free / s.limits[at.BLOCKS]
        place += at.GAUGES
        for counter in at.COUNTED:
            s.samples[place] = s.ints[counter]
            place += 1
        for number in range(len(s.histograms)):
            s.samples[place + number] = s.histograms[number]
        s.ints[at.SAMPLES] += 1
        s.floats[at.NEXT_SAMPLE] += s.floats[at.SAMPLE_EVERY]
