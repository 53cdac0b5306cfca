"""Steps with and without CUDA graphs: those with more tokens than any graph holds are launched
kernel by kernel, and take as long as that at least."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from vllm_operator.sizing.performance.server import Server
from vllm_operator.sizing.performance.step import Times

EVERY: Final = 1 << 30
"""Tokens that no step has."""


def captured(server: Server) -> int:
    """Tokens of the largest step that a CUDA graph of ``server`` holds; 0 where there are none."""
    return min(stage.captured for stage, _ in server.times.stages)


def with_graphs(server: Server, tokens: int) -> Server:
    """``server`` with CUDA graphs for steps of up to ``tokens`` tokens, unless it has none."""
    if captured(server) in (0, tokens):
        return server
    return replace(server, times=_captured(server.times, tokens))


def both(times: Times) -> tuple[Times, Times]:
    """The times with a CUDA graph for each step, and with none."""
    return _captured(times, EVERY), _captured(times, 0)


def _captured(times: Times, tokens: int) -> Times:
    stages = tuple((replace(stage, captured=tokens), count) for stage, count in times.stages)
    return replace(times, stages=stages)
