"""Which step comes next and what it does: the rules of vLLM 0.32.0 ``v1/core/sched/scheduler.py``.

Running requests come first, in the order of their admission: one token each, or the next piece of a
prompt. Then waiting requests are admitted, in order, while tokens, places and blocks last. Of a
step without blocks for all that run, those admitted last lose theirs, go to the head of the queue,
and nobody is admitted.

At most one running request has a part of its prompt to compute, and it is the last: a prompt is cut
only by a step's tokens, and then nobody comes after it.

Steps in which requests only decode are taken many at once: up to the next end, arrival, sample or
change of speed, and as long as blocks last. Their times are summed exactly.
"""

from __future__ import annotations

import heapq
from typing import Final

from . import state as at
from .blocks import blocks_needed, blocks_of, cached_blocks, fits, hold_prefix
from .compiled import compiled
from .counting import bucket, gap, observe, sample
from .requests import (
    admit,
    finish,
    first_token,
    head_of_queue,
    last_admitted,
    preempt,
    start_decoding,
    stop_decoding,
)
from .seconds import NEVER, attention, crossing, slowed, together, whole
from .state import State
from .steps import JITTERS, StepTable

SLOTS: Final = 4096
"""More than an engine ever has: a heap's entry is a turn and a slot in one number."""


@compiled
def count_gaps(s: State, first: float, more: float, steps: int) -> None:
    """Counts the times between tokens of so many steps."""
    count = s.ints[at.DECODING]
    low = first * s.floats[at.LEAST_JITTER]
    high = (first + more * steps) * s.floats[at.MOST_JITTER]
    objective = s.floats[at.GAP_OBJECTIVE]
    found = bucket(s, at.GAP, low)
    if found == bucket(s, at.GAP, high) and not low <= objective < high:
        start = s.starts[at.GAP] + 2 * at.GAP
        s.histograms[start + found] += count * steps
        total = count * together(s, first, more, steps)
        s.histograms[s.starts[at.GAP + 1] + 2 * at.GAP + 1] += total
        if low > objective:
            s.ints[at.SLOW_GAPS] += count * steps
        return
    place = s.ints[at.STEPS] % JITTERS
    for number in range(steps):
        gap(s, (first + more * number) * s.jitters[place + number], count)


@compiled
def advance(s: State, table: StepTable, until: float) -> None:
    """Takes steps until one ends at ``until`` or later, or nothing is left to do before."""
    ints, floats, limits = s.ints, s.floats, s.limits
    ends = [0]
    ends.pop()
    for number in range(ints[at.DECODING]):
        slot = s.decoding[number]
        heapq.heappush(ends, s.until[slot] * SLOTS + slot)
    while True:
        now = floats[at.NOW]
        mask = len(s.queue_at) - 1
        while ints[at.SEEN] < ints[at.TAIL] and s.queue_at[ints[at.SEEN] & mask] <= now:
            ints[at.SEEN] += 1
        waiting = ints[at.SEEN] - ints[at.HEAD] + ints[at.PREEMPTED]
        running = ints[at.DECODING] + (1 if ints[at.PARTIAL] >= 0 else 0)
        free = ints[at.FREE]
        if now >= until:
            sample(s, until, running, waiting, free)
            return
        following = NEVER
        if ints[at.SEEN] < ints[at.TAIL]:
            following = s.queue_at[ints[at.SEEN] & mask]
        if running == 0 and waiting == 0:
            floats[at.NOW] = min(following, until)
            sample(s, floats[at.NOW], running, waiting, free)
            continue
        factor, changes = slowed(s)
        decodes = ints[at.DECODING]

        while decodes > 0 and ends[0] // SLOTS != s.until[ends[0] % SLOTS]:
            heapq.heappop(ends)
        if ints[at.PARTIAL] < 0 and decodes > 0:
            blocked = True
            if waiting > 0 and running < limits[at.CAP] and decodes < limits[at.TOKENS]:
                slot, tokens = head_of_queue(s)
                blocked = not fits(s, running, tokens, cached_blocks(s, slot, tokens))
                if blocked:
                    ints[at.CACHE_BOUND] += 1
            elif waiting > 0:
                ints[at.CAP_BOUND] += 1
            most = ends[0] // SLOTS - ints[at.TURN]
            most = min(most, JITTERS - ints[at.STEPS] % JITTERS, limits[at.LONGEST_SKIP])
            if blocked:
                while most > 0 and blocks_needed(s, most) > free:
                    most //= 2
            if blocked and most > 0:
                context = float(ints[at.CONTEXT])
                for kind in range(0, len(table.kinds), 5):
                    # Up to where the mean context fills a window, times grow by equal amounts.
                    left = int(table.kinds[kind + 3] - context / decodes)
                    if left >= 0:
                        most = min(most, max(1, left))
                attended = attention(s, table, decodes, context)
                after = attention(s, table, decodes, context + decodes)
                first = factor * whole(table, decodes, decodes, attended)
                more = factor * whole(table, decodes, decodes, after) - first
                horizon = min(until, changes)
                if waiting == 0:
                    horizon = min(horizon, following)
                steps = crossing(s, first, more, most, horizon - now)
                ahead = floats[at.NEXT_SAMPLE] - now
                if together(s, first, more, steps) >= ahead:
                    steps = crossing(s, first, more, steps, ahead) - 1
                    if steps == 0:
                        end = now + together(s, first, more, 1)
                        sample(s, min(end, until), running, waiting, free)
                        # What is due after ``until`` is written by who asks for more.
                        steps = 1
                seconds = together(s, first, more, steps)
                count_gaps(s, first, more, steps)
                ints[at.MOST_RUNNING] = max(ints[at.MOST_RUNNING], decodes)
                ints[at.LARGEST_STEP] = max(ints[at.LARGEST_STEP], decodes)
                observe(s, at.STEP, float(decodes), steps)
                needed = blocks_needed(s, steps)
                ints[at.FREE] -= needed
                ints[at.LEAST_FREE] = min(ints[at.LEAST_FREE], ints[at.FREE])
                ints[at.TAKEN] += needed
                ints[at.STEPS] += steps
                ints[at.TURN] += steps
                ints[at.GENERATED] += steps * decodes
                ints[at.CONTEXT] += steps * decodes
                floats[at.NOW] = now + seconds
                while ints[at.DECODING] > 0 and ends[0] // SLOTS <= ints[at.TURN]:
                    entry = heapq.heappop(ends)
                    if s.until[entry % SLOTS] == entry // SLOTS:
                        finish(s, entry % SLOTS, stop_decoding(s, entry % SLOTS))
                continue

        lost = False
        while blocks_needed(s, 1) > ints[at.FREE]:
            preempt(s, last_admitted(s))
            lost = True
        decodes = ints[at.DECODING]
        needed = blocks_needed(s, 1)
        ints[at.FREE] -= needed
        ints[at.TAKEN] += needed
        budget = limits[at.TOKENS] - decodes
        pieces = 0
        prompts = 0
        attended = attention(s, table, decodes, float(ints[at.CONTEXT]))
        if ints[at.PARTIAL] >= 0:
            slot = ints[at.PARTIAL]
            chunk = min(s.tokens[slot] - s.computed[slot], budget)
            own = blocks_of(s, s.computed[slot] + chunk) - blocks_of(s, s.computed[slot])
            if own > ints[at.FREE]:
                preempt(s, slot)
                lost = True
            else:
                s.chunk[slot] = chunk
                ints[at.FREE] -= own
                ints[at.TAKEN] += own
                hold_prefix(s, slot)
                s.pieces[pieces] = slot
                pieces += 1
                budget -= chunk
        waiting = ints[at.SEEN] - ints[at.HEAD] + ints[at.PREEMPTED]
        while not lost and waiting > 0 and budget > 0 and decodes + pieces < limits[at.CAP]:
            slot, tokens = head_of_queue(s)
            cached = cached_blocks(s, slot, tokens)
            if not fits(s, decodes + pieces, tokens, cached):
                break
            slot = admit(s, slot, tokens, cached, budget)
            hold_prefix(s, slot)
            s.pieces[pieces] = slot
            pieces += 1
            budget -= s.chunk[slot]
            waiting -= 1
        ints[at.LEAST_FREE] = min(ints[at.LEAST_FREE], ints[at.FREE])
        if lost:
            ints[at.CACHE_BOUND] += 1
        if budget == 0:
            ints[at.BUDGET_BOUND] += 1
        ints[at.PARTIAL] = -1
        for number in range(pieces):
            slot = s.pieces[number]
            chunk = s.chunk[slot]
            prompts += chunk
            for kind in range(0, len(table.kinds), 5):
                seen = s.computed[slot] + 0.5 * chunk
                if table.kinds[kind + 3] > 0.0:
                    seen = min(seen, table.kinds[kind + 3])
                attended += chunk * seen * table.kinds[kind]
        tokens = decodes + prompts
        seconds = factor * whole(table, tokens, decodes + pieces, attended)
        seconds *= s.jitters[ints[at.STEPS] % JITTERS]
        sample(s, min(now + seconds, until), running, waiting, free)
        ints[at.STEPS] += 1
        ints[at.MOST_RUNNING] = max(ints[at.MOST_RUNNING], decodes + pieces)
        ints[at.LARGEST_STEP] = max(ints[at.LARGEST_STEP], tokens)
        floats[at.NOW] = now + seconds

        told = decodes
        outputs = decodes
        if decodes > 0:
            gap(s, seconds, decodes)
            ints[at.TURN] += 1
            ints[at.CONTEXT] += decodes
            while ints[at.DECODING] > 0 and ends[0] // SLOTS <= ints[at.TURN]:
                entry = heapq.heappop(ends)
                if s.until[entry % SLOTS] == entry // SLOTS:
                    finish(s, entry % SLOTS, stop_decoding(s, entry % SLOTS))
        for number in range(pieces):
            slot = s.pieces[number]
            s.computed[slot] += s.chunk[slot]
            if s.computed[slot] < s.tokens[slot]:
                ints[at.PARTIAL] = slot
                continue
            told += first_token(s, slot)
            outputs += 1
            if s.generated[slot] == s.output[slot]:
                finish(s, slot, s.tokens[slot])
            else:
                start_decoding(s, slot)
                heapq.heappush(ends, s.until[slot] * SLOTS + slot)
        ints[at.GENERATED] += outputs
        if outputs > 0:
            observe(s, at.STEP, float(told), 1)
