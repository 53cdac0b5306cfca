"""What becomes of one request: admitted, decoding, preempted, done."""

from __future__ import annotations

from . import state as at
from .blocks import blocks_of, release
from .compiled import compiled
from .counting import gap, observe
from .state import State


@compiled
def head_of_queue(s: State) -> tuple[int, int]:
    """The slot of the request to be admitted next, -1 for a new one, and its tokens."""
    if s.ints[at.PREEMPTED] > 0:
        slot = s.preempted[s.ints[at.PREEMPTED] - 1]
        return int(slot), int(s.tokens[slot])
    place = s.ints[at.HEAD] & (len(s.queue_at) - 1)
    return -1, int(s.queue_prompt[place])


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
