"""The blocks of the KV cache: who holds how many, what stays cached, and what fits."""

from __future__ import annotations

from . import state as at
from .compiled import compiled
from .state import State


@compiled
def blocks_of(s: State, tokens: int) -> int:
    """Blocks that hold so many tokens."""
    return int((tokens + s.limits[at.BLOCK_SIZE] - 1) // s.limits[at.BLOCK_SIZE])


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
def fits(s: State, running: int, tokens: int, cached: int) -> bool:
    """Whether the free blocks hold a whole sequence (``scheduler_reserve_full_isl``)."""
    wanted = blocks_of(s, tokens)
    if s.ints[at.HOLDERS] > 0:
        wanted -= min(cached, s.limits[at.SHARED])
    if running > 0:
        wanted += s.limits[at.WATERMARK]
    return bool(wanted <= s.ints[at.FREE])


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
def blocks_needed(s: State, steps: int) -> int:
    """Blocks that the decoding requests need in their next turns."""
    size = s.limits[at.BLOCK_SIZE]
    needed = steps // size * s.ints[at.DECODING]
    for number in range(steps % size):
        needed += s.phases[-(s.ints[at.TURN] + number) % size]
    return int(needed)
