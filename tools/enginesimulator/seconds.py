"""How long steps take: one with all that it computes, and many alike with their jitter."""

from __future__ import annotations

from typing import Final

from . import state as at
from .compiled import compiled
from .state import State
from .steps import JITTERS, StepTable

NEVER: Final = 1e300


@compiled
def attention(s: State, table: StepTable, decodes: float, context: float) -> float:
    """Seconds of the decoding requests' attention."""
    seconds = 0.0
    for kind in range(0, len(table.kinds), 5):
        seen = context
        if table.kinds[kind + 3] > 0.0:
            seen = min(context, decodes * table.kinds[kind + 3])
        seconds += decodes * table.kinds[kind + 4]
        seconds += seen * max(table.kinds[kind + 1], table.kinds[kind + 2])
    return seconds


@compiled
def whole(table: StepTable, tokens: int, sequences: int, attended: float) -> float:
    """Seconds of a step of so many tokens and sequences that attends so long."""
    if tokens < len(table.padded):
        seconds = attended + table.base[table.padded[tokens]]
    else:
        seconds = max(attended + table.base[tokens], table.extra[0])
    seconds += max(table.head[0] * sequences, table.head[1] + table.head[2] * sequences)
    seconds += table.head[3] * sequences
    host = table.extra[1] * sequences + table.extra[3]
    seconds = max(seconds, host) if table.extra[2] else seconds + host
    seconds = max(seconds, table.extra[4] * sequences)
    return float(seconds * table.bend[1] if sequences > table.bend[0] else seconds)


@compiled
def slowed(s: State) -> tuple[float, float]:
    """The factor on steps now, and when it changes."""
    place = len(s.slow_times) - 1
    while s.slow_times[place] > s.floats[at.NOW]:
        place -= 1
    if place + 1 < len(s.slow_times):
        return s.slow_factors[place], s.slow_times[place + 1]
    return s.slow_factors[place], NEVER


@compiled
def together(s: State, first: float, more: float, steps: int) -> float:
    """Seconds of so many steps: the first takes ``first``, each ``more`` than the one before, and
    all their jitter."""
    place = s.ints[at.STEPS] % JITTERS
    sums = s.jitter_sums[place + steps] - s.jitter_sums[place]
    moments = s.jitter_moments[place + steps] - s.jitter_moments[place]
    return float((first - place * more) * sums + more * moments)


@compiled
def crossing(s: State, first: float, more: float, most: int, horizon: float) -> int:
    """The fewest steps, at most ``most``, that reach a horizon."""
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        if together(s, first, more, middle) >= horizon:
            high = middle
        else:
            low = middle + 1
    return low
