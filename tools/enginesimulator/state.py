"""What one engine holds, as arrays that compiled code can use."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

# Places in ``State.ints``.
STEPS: Final = 0  # steps taken, those without outputs too
TURN: Final = 1  # steps in which the decoding requests decoded
DECODING: Final = 2  # requests that decode
PARTIAL: Final = 3  # the slot of the request whose prompt is computed in part; -1 for none
FREE: Final = 4  # free blocks, those that only cache something too
TAKEN: Final = 5  # blocks taken from the free ones, ever
HOLDERS: Final = 6  # running requests that hold the shared prefix
PREFIX: Final = 7  # 1 where the shared prefix is in the cache
PREFIX_AT: Final = 8  # TAKEN when its last holder left
PREFIX_BEHIND: Final = 9  # FREE before it left
CONTEXT: Final = 10  # tokens that the decoding requests attend to
HEAD: Final = 11  # first request of the queue that was not admitted
SEEN: Final = 12  # first request of the queue that has not arrived
TAIL: Final = 13  # end of the queue
PREEMPTED: Final = 14  # preempted requests that wait
ADMITTED: Final = 15  # admissions, ever
VACANT: Final = 16  # free slots
LEAVING: Final = 17  # clients that send nothing more once they are answered
DRAWN: Final = 18  # lengths drawn from the pool
SAMPLES: Final = 19  # samples written
PROMPT_TOKENS: Final = 20
CACHED_TOKENS: Final = 21
GENERATED: Final = 22
QUERIES: Final = 23
HITS: Final = 24
PREEMPTIONS: Final = 25  # as vLLM counts them: with the next output of the request
FINISHED: Final = 26
SLOW_GAPS: Final = 27
SLOW_FIRST: Final = 28
PREEMPTIONS_DONE: Final = 29  # at once
CAP_BOUND: Final = 30  # steps in which a request waited for a place
CACHE_BOUND: Final = 31  # steps in which a request waited for blocks or lost them
BUDGET_BOUND: Final = 32  # steps in which a prompt was cut or had to wait for tokens
MOST_RUNNING: Final = 33
LARGEST_STEP: Final = 34  # tokens
DISCARDED: Final = 35  # tokens that had been computed for requests that were preempted
LEAST_FREE: Final = 36  # blocks
INTS: Final = 37

# Places in ``State.floats``.
NOW: Final = 0
NEXT_SAMPLE: Final = 1
SAMPLE_EVERY: Final = 2
GAP_OBJECTIVE: Final = 3
FIRST_OBJECTIVE: Final = 4
CLOSED_UNTIL: Final = 5
REQUEST_SECONDS: Final = 6
LEAST_JITTER: Final = 7
MOST_JITTER: Final = 8
FLOATS: Final = 9

# Places in ``State.limits``.
TOKENS: Final = 0
CAP: Final = 1
BLOCKS: Final = 2
BLOCK_SIZE: Final = 3
WATERMARK: Final = 4
SHARED: Final = 5  # full blocks of the shared prefix
LONGEST_SKIP: Final = 6  # steps that may be taken at once
CACHING: Final = 7  # 1 with prefix caching

# Histograms, in this order.
GAP: Final = 0
FIRST: Final = 1
LATENCY: Final = 2
QUEUE: Final = 3
PREFILL: Final = 4
DECODE: Final = 5
INFERENCE: Final = 6
STEP: Final = 7
PROMPT: Final = 8
OUTPUT: Final = 9
PREEMPTION: Final = 10
PER_TOKEN: Final = 11
HISTOGRAMS: Final = 12

COUNTED: Final = (
    PROMPT_TOKENS,
    CACHED_TOKENS,
    GENERATED,
    QUERIES,
    HITS,
    PREEMPTIONS,
    FINISHED,
    SLOW_GAPS,
    SLOW_FIRST,
)
"""What a sample holds after time, running, waiting and cache usage, and before the histograms."""
GAUGES: Final = 4


class State(NamedTuple):
    """One engine. Slots are requests that were admitted; the queue is a ring of those to come."""

    ints: Any
    floats: Any
    limits: Any
    edges: Any
    """Of all histograms, one after the other."""
    starts: Any
    """Where each histogram's edges begin, and the end."""
    histograms: Any
    """Counts by bucket, the last above all edges, and the sum, for each histogram."""
    samples: Any
    jitters: Any
    jitter_sums: Any
    jitter_moments: Any
    slow_times: Any
    slow_factors: Any
    pool_prompts: Any
    pool_outputs: Any
    queue_at: Any
    """When the engine has it."""
    queue_sent: Any
    """When the client sent it."""
    queue_prompt: Any
    queue_output: Any
    queue_closed: Any
    """1 where its client sends another once it is answered."""
    phases: Any
    """Decoding requests by the turn in which they need another block, modulo the block size."""
    decoding: Any
    """Slots that decode."""
    preempted: Any
    """Slots that wait again, the first to come back last."""
    vacant: Any
    pieces: Any
    """Slots whose prompts are computed in this step."""
    sent: Any
    arrived: Any
    scheduled: Any
    first: Any
    last: Any
    prompt: Any
    output: Any
    generated: Any
    """Tokens generated when its prompt, or what is computed again, was done."""
    tokens: Any
    """To compute before it decodes: its prompt, and what it had generated when preempted."""
    computed: Any
    chunk: Any
    base: Any
    """Tokens in the cache when it began to decode."""
    since: Any
    """TURN when it began to decode."""
    until: Any
    """TURN when it ends; -1 where it does not decode."""
    order: Any
    """ADMITTED when it was admitted."""
    place: Any
    """In ``decoding``."""
    hit: Any
    """Prompt tokens found in the cache when it was first admitted."""
    holds: Any
    """1 where it holds the shared prefix."""
    lost: Any
    """Times that it was preempted."""
    untold: Any
    """Of these, those that no output has told yet."""
    left_at: Any
    """TAKEN when it was preempted."""
    left_behind: Any
    """FREE before it was preempted."""
    left: Any
    """Full blocks of its own that it left in the cache."""
    closed: Any
