"""A server and intervals that the tests of this room speak of: worked out, without chance."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from vllm_operator.engine.versions import NEWEST_KNOWN
from vllm_operator.hardware.performance import find
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import architecture_from_config
from vllm_operator.sizing.performance.multipliers import Multipliers
from vllm_operator.sizing.performance.server import Server, server
from vllm_operator.sizing.performance.work import work_of
from vllm_operator.tuning.intervals import Between, Interval
from vllm_operator.tuning.points import Point, seconds


@lru_cache
def shipped(tokens: int = 8192, seqs: int = 256) -> Server:
    """Qwen3-8B on an H100, as the coefficients say."""
    facts, gpu = catalogue.find("Qwen/Qwen3-8B"), find("NVIDIA-H100-80GB-HBM3")
    assert facts is not None
    assert gpu is not None
    work = work_of(architecture_from_config(facts.config))
    return server(work, gpu, version=NEWEST_KNOWN, max_num_batched_tokens=tokens, max_num_seqs=seqs)


def load(batch: float) -> Point:
    """As ``interval`` has it: prompts of 800 tokens, 240 generated, half of them so far."""
    return Point(batch, 800 * batch / 240, batch / 240, 920.0, 400.0, 1.0)


def interval(
    end: float, batch: float, latency: float, pod: str = "a", seconds: float = 15.0, **given: object
) -> Interval:
    """An engine that always steps, with ``batch`` generating and ``latency`` seconds a step."""
    steps = seconds / latency
    gaps = steps * batch
    starts = gaps / 240
    counts: dict[str, object] = {
        "steps": steps,
        "gaps": gaps,
        "gap_seconds": gaps * latency,
        "slow_gaps": None,
        "first_tokens": starts,
        "first_token_seconds": 0.1 * starts,
        "slow_first_tokens": None,
        "prompt_tokens": 800 * starts,
        "cached_tokens": 0.0,
        "generated_tokens": gaps + starts,
        "running": batch,
        "waiting": 0.0,
        "cache_usage": 0.3,
        "preemptions": 0.0,
        "finished": starts,
        "failed": 0.0,
        "rejected": 0.0,
        "finished_prompt_tokens": 800 * starts,
        "finished_output_tokens": 240 * starts,
        "finished_output_squares": 240**2 * starts,
        "queue_seconds": 0.0,
        "request_seconds": 240 * latency * starts,
    }
    return Interval(pod=pod, end=end, seconds=seconds, **(counts | given))  # type: ignore[arg-type]


def hour(
    truth: Multipliers,
    batch: Callable[[int], float],
    factor: Callable[[int], float] = lambda number: 1.0,
    *,
    pod: str = "a",
    number: int = 240,
) -> list[Interval]:
    """Intervals of a server whose parts take as ``truth`` says and whose minutes as ``factor``."""
    real = shipped().scaled(truth)
    found = []
    for one in range(number):
        # What a request meets is one more than the mean batch, less what the cap leaves out.
        met = batch(one) + 1.0 - batch(one) / 256
        at = load(batch(one))._replace(batch=met)
        found.append(interval(15.0 * (one + 1), batch(one), factor(one) * seconds(real, at), pod))
    return found


def wave(number: int) -> float:
    """A batch between 12 and 20, up and down every three minutes."""
    return 16.0 + 4.0 * (abs(number % 12 - 6) / 3.0 - 1.0)


def exact(slow: float) -> Between:
    """As many, to the digit."""
    return Between(slow, slow)
