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
from .compiled import compiled
from .state import State
from .steps import JITTERS, StepTable

SLOTS: Final = 4096
"""More than an engine ever has: a heap's entry is a turn and a slot in one number."""
NEVER: Final = 1e300


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
def blocks_of(s: State, tokens: int) -> int:
    """Blocks that hold so many tokens."""
    return int((tokens + s.limits[at.BLOCK_SIZE] - 1) // s.limits[at.BLOCK_SIZE])


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


@compiled
def release(s: State, slot: int, tokens: int) -> None:
    """Gives back the blocks of a request that has so many tokens in the cache.

    They stay cached until others take them. Free blocks are taken in the order in which they were
    given back, of one request the last first.
    """
    own = blocks_of(s, tokens)
    full = tokens // s.limits[at.BLOCK_SIZE]
    if s.holds[slot]:
        own -= s.limits[at.SHARED]
        full -= s.limits[at.SHARED]
    s.left_at[slot] = s.ints[at.TAKEN]
    s.left_behind[slot] = s.ints[at.FREE]
    s.left[slot] = full
    s.ints[at.FREE] += own
    if s.holds[slot]:
        s.holds[slot] = 0
        s.ints[at.HOLDERS] -= 1
        if s.ints[at.HOLDERS] == 0:
            s.ints[at.PREFIX_AT] = s.ints[at.TAKEN]
            s.ints[at.PREFIX_BEHIND] = s.ints[at.FREE]
            s.ints[at.FREE] += s.limits[at.SHARED]


@compiled
def stop_decoding(s: State, slot: int) -> int:
    """Takes a request from those that decode; the tokens that it has in the cache."""
    tokens: int = s.base[slot] + s.ints[at.TURN] - s.since[slot]
    s.ints[at.CONTEXT] -= tokens + 1
    s.phases[(s.base[slot] - s.since[slot]) % s.limits[at.BLOCK_SIZE]] -= 1
    s.ints[at.DECODING] -= 1
    moved = s.decoding[s.ints[at.DECODING]]
    s.decoding[s.place[slot]] = moved
    s.place[moved] = s.place[slot]
    s.until[slot] = -1
    return tokens


@compiled
def preempt(s: State, slot: int) -> None:
    """Takes all blocks of a request and sends it to the head of the queue."""
    if s.until[slot] >= 0:
        s.generated[slot] += s.ints[at.TURN] - s.since[slot]
        s.last[slot] = s.floats[at.NOW]
        tokens = stop_decoding(s, slot)
    else:
        tokens = s.computed[slot]
        s.ints[at.PARTIAL] = -1
    release(s, slot, tokens)
    s.ints[at.DISCARDED] += tokens
    s.computed[slot] = 0
    s.tokens[slot] = s.prompt[slot] + s.generated[slot]
    s.lost[slot] += 1
    s.untold[slot] += 1
    s.ints[at.PREEMPTIONS_DONE] += 1
    s.preempted[s.ints[at.PREEMPTED]] = slot
    s.ints[at.PREEMPTED] += 1


@compiled
def last_admitted(s: State) -> int:
    """Of those that run."""
    if s.ints[at.PARTIAL] >= 0:
        return int(s.ints[at.PARTIAL])
    found = s.decoding[0]
    for number in range(1, s.ints[at.DECODING]):
        if s.order[s.decoding[number]] > s.order[found]:
            found = s.decoding[number]
    return int(found)


@compiled
def prefix_cached(s: State) -> bool:
    """Whether the shared prefix is still in the cache; forgets it where others took its blocks."""
    if s.ints[at.PREFIX] and s.ints[at.HOLDERS] == 0:
        taken = s.ints[at.TAKEN] - s.ints[at.PREFIX_AT]
        if taken > s.ints[at.PREFIX_BEHIND]:
            s.ints[at.PREFIX] = 0
    return bool(s.ints[at.PREFIX])


@compiled
def cached_blocks(s: State, slot: int, tokens: int) -> int:
    """Full blocks of a request that are in the cache; ``slot`` is -1 for one never admitted.

    One token at least is computed.
    """
    if not s.limits[at.CACHING] or (s.limits[at.SHARED] > 0 and not prefix_cached(s)):
        return 0
    found = s.limits[at.SHARED]
    if slot >= 0:
        taken = s.ints[at.TAKEN] - s.left_at[slot] - s.left_behind[slot]
        found += max(0, s.left[slot] - max(0, taken))
    return int(min(found, (tokens - 1) // s.limits[at.BLOCK_SIZE]))


@compiled
def head_of_queue(s: State) -> tuple[int, int]:
    """The slot of the request to be admitted next, -1 for a new one, and its tokens."""
    if s.ints[at.PREEMPTED] > 0:
        slot = s.preempted[s.ints[at.PREEMPTED] - 1]
        return int(slot), int(s.tokens[slot])
    place = s.ints[at.HEAD] & (len(s.queue_at) - 1)
    return -1, int(s.queue_prompt[place])


@compiled
def fits(s: State, running: int, tokens: int, cached: int) -> bool:
    """Whether the free blocks hold a whole sequence (``scheduler_reserve_full_isl``)."""
    wanted = blocks_of(s, tokens)
    if s.ints[at.HOLDERS] > 0:
        wanted -= min(cached, s.limits[at.SHARED])
    if running > 0:
        wanted += s.limits[at.WATERMARK]
    return bool(wanted <= s.ints[at.FREE])


@compiled
def admit(s: State, slot: int, tokens: int, cached: int, budget: int) -> int:
    """Lets the head of the queue run; its slot, with ``chunk`` set to its tokens of this step."""
    if slot < 0:
        place = s.ints[at.HEAD] & (len(s.queue_at) - 1)
        s.ints[at.VACANT] -= 1
        slot = s.vacant[s.ints[at.VACANT]]
        s.sent[slot] = s.queue_sent[place]
        s.arrived[slot] = s.queue_at[place]
        s.prompt[slot] = tokens
        s.output[slot] = s.queue_output[place]
        s.closed[slot] = s.queue_closed[place]
        s.scheduled[slot] = s.floats[at.NOW]
        s.generated[slot] = 0
        s.tokens[slot] = tokens
        s.lost[slot] = 0
        s.untold[slot] = 0
        s.until[slot] = -1
        s.hit[slot] = cached * s.limits[at.BLOCK_SIZE]
        s.ints[at.HEAD] += 1
        s.ints[at.QUERIES] += tokens
        s.ints[at.HITS] += s.hit[slot]
    else:
        s.ints[at.PREEMPTED] -= 1
    s.computed[slot] = cached * s.limits[at.BLOCK_SIZE]
    s.chunk[slot] = min(tokens - s.computed[slot], budget)
    s.order[slot] = s.ints[at.ADMITTED]
    s.ints[at.ADMITTED] += 1
    shared = s.limits[at.SHARED]
    s.holds[slot] = shared > 0 and cached >= shared
    taken = blocks_of(s, s.computed[slot] + s.chunk[slot])
    if s.holds[slot]:
        taken -= shared
        if s.ints[at.HOLDERS] == 0:
            s.ints[at.FREE] -= shared
        s.ints[at.HOLDERS] += 1
    s.ints[at.FREE] -= taken
    # Blocks that it finds in the cache leave the free ones without being taken by another.
    s.ints[at.TAKEN] += taken - max(0, cached - (shared if s.holds[slot] else 0))
    return int(slot)


@compiled
def attention(s: State, table: StepTable, decodes: float, context: float) -> float:
    """Seconds of the decoding requests' attention."""
    seconds = 0.0
    for kind in range(0, len(table.kinds), 6):
        seen = context
        if table.kinds[kind + 3] > 0.0:
            seen = min(context, decodes * table.kinds[kind + 3])
        seconds += decodes * table.kinds[kind + 5] + table.kinds[kind + 4] * context
        seconds += seen * max(table.kinds[kind + 1], table.kinds[kind + 2])
    return seconds


@compiled
def whole(table: StepTable, tokens: int, sequences: int, attended: float) -> float:
    """Seconds of a step of so many tokens and sequences that attends so long."""
    if tokens < len(table.padded):
        seconds = attended + table.base[table.padded[tokens]]
    else:
        seconds = attended + table.base[tokens] + table.extra[0]
    seconds += max(table.head[0] * sequences, table.head[1] + table.head[2] * sequences)
    seconds += table.head[3] * sequences
    host = table.extra[1] * sequences
    seconds = max(seconds, host) if table.extra[2] else seconds + host
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
def finish(s: State, slot: int, tokens: int) -> None:
    """Tells of a request that is done, gives back its blocks, and sends its client's next one."""
    now = s.floats[at.NOW]
    release(s, slot, tokens)
    s.ints[at.FINISHED] += 1
    observe(s, at.LATENCY, now - s.sent[slot], 1)
    observe(s, at.QUEUE, s.scheduled[slot] - s.arrived[slot], 1)
    observe(s, at.PREFILL, s.first[slot] - s.scheduled[slot], 1)
    observe(s, at.DECODE, now - s.first[slot], 1)
    observe(s, at.INFERENCE, now - s.scheduled[slot], 1)
    observe(s, at.PROMPT, float(s.prompt[slot]), 1)
    observe(s, at.OUTPUT, float(s.output[slot]), 1)
    observe(s, at.PREEMPTION, float(s.lost[slot]), 1)
    later = s.output[slot] - 1
    observe(s, at.PER_TOKEN, (now - s.first[slot]) / later if later > 0 else 0.0, 1)
    s.vacant[s.ints[at.VACANT]] = slot
    s.ints[at.VACANT] += 1
    if s.closed[slot] and now < s.floats[at.CLOSED_UNTIL]:
        if s.ints[at.LEAVING] > 0:
            s.ints[at.LEAVING] -= 1
            return
        drawn = s.ints[at.DRAWN] % len(s.pool_prompts)
        s.ints[at.DRAWN] += 1
        place = s.ints[at.TAIL] & (len(s.queue_at) - 1)
        s.queue_at[place] = now + s.floats[at.REQUEST_SECONDS]
        s.queue_sent[place] = now
        s.queue_prompt[place] = s.pool_prompts[drawn]
        s.queue_output[place] = s.pool_outputs[drawn]
        s.queue_closed[place] = 1
        s.ints[at.TAIL] += 1


@compiled
def blocks_needed(s: State, steps: int) -> int:
    """Blocks that the decoding requests need in their next turns."""
    size = s.limits[at.BLOCK_SIZE]
    needed = steps // size * s.ints[at.DECODING]
    for number in range(steps % size):
        needed += s.phases[-(s.ints[at.TURN] + number) % size]
    return int(needed)


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
def first_token(s: State, slot: int) -> int:
    """Counts a request's first token, or the first after it was preempted; the tokens counted."""
    now = s.floats[at.NOW]
    counted = 1
    s.ints[at.PREEMPTIONS] += s.untold[slot]
    s.untold[slot] = 0
    if s.generated[slot] == 0:
        observe(s, at.FIRST, now - s.sent[slot], 1)
        if now - s.sent[slot] > s.floats[at.FIRST_OBJECTIVE]:
            s.ints[at.SLOW_FIRST] += 1
        s.first[slot] = now
        counted += s.prompt[slot] - s.hit[slot]
        s.ints[at.PROMPT_TOKENS] += s.prompt[slot] - s.hit[slot]
        s.ints[at.CACHED_TOKENS] += s.hit[slot]
    else:
        gap(s, now - s.last[slot], 1)
    s.generated[slot] += 1
    return int(counted)


@compiled
def start_decoding(s: State, slot: int) -> None:
    """Adds a request whose tokens are all computed to those that decode."""
    tokens, turn = s.tokens[slot], s.ints[at.TURN]
    s.base[slot] = tokens
    s.since[slot] = turn
    s.until[slot] = turn + s.output[slot] - s.generated[slot]
    s.phases[(tokens - turn) % s.limits[at.BLOCK_SIZE]] += 1
    s.place[slot] = s.ints[at.DECODING]
    s.decoding[s.ints[at.DECODING]] = slot
    s.ints[at.DECODING] += 1
    s.ints[at.CONTEXT] += tokens + 1


@compiled
def hold_prefix(s: State, slot: int) -> None:
    """Makes the leading blocks of the first that computed them the shared ones."""
    shared = s.limits[at.SHARED]
    done = s.computed[slot] + s.chunk[slot]
    if shared > 0 and not s.ints[at.PREFIX] and done >= shared * s.limits[at.BLOCK_SIZE]:
        s.ints[at.PREFIX] = 1
        s.ints[at.HOLDERS] = 1
        s.holds[slot] = 1


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
                for kind in range(0, len(table.kinds), 6):
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
            for kind in range(0, len(table.kinds), 6):
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
