"""Figures at the number from which they differ, and one before it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from unit.sizing.examples import LLAMA_8B, only_problem, plan_of
from unit.sizing.test_stages import NEMOTRON_H, architecture
from vllm_operator.engine.refusals import Refusal
from vllm_operator.engine.tables import rows
from vllm_operator.engine.versions import Version
from vllm_operator.sizing.asked import version_support
from vllm_operator.sizing.asked.speculation import Speculation, batch_problems
from vllm_operator.sizing.memory.kvcache import CacheSettings, Group
from vllm_operator.sizing.split.parallelism import SINGLE, Parallelism
from vllm_operator.sizing.split.stages import illegal_stages_because

VERSION = Version.parse("0.30.0")
DRAFTS = {"method": "ngram", "tokens": 3}


def settings(tokens: int = 16, *, drafts: int = 0, pipeline: int = 1) -> CacheSettings:
    """One batch in flight of so many tokens, or one more than stages."""
    return CacheSettings(
        VERSION,
        SINGLE if pipeline == 1 else Parallelism(1, pipeline),
        16,
        16,
        tokens,
        speculative_tokens=drafts,
        async_scheduling=False,
    )


@pytest.mark.parametrize(
    ("group", "length", "chosen", "blocks"),
    [
        (Group("full", 1, 16), 16, settings(), 1),
        (Group("full", 1, 16), 17, settings(), 2),
        # The window's tokens but for the newest, those in flight, and one block that both cut.
        (Group("window", 1, 16, window=17), 1000, settings(16), 3),
        (Group("window", 1, 16, window=18), 1000, settings(16), 4),
        (Group("window", 1, 16, window=17), 1000, settings(17), 4),
        (Group("window", 1, 16, window=17), 16, settings(16), 2),
        (Group("window", 1, 16, window=17), 17, settings(16), 3),
        (Group("window", 1, 16, window=17), 1000, settings(16, pipeline=2), 5),
        (Group("window", 1, 16, window=17), 1000, settings(16, pipeline=3), 6),
        (Group("state", 1, 16), 1000, settings(), 1),
        (Group("state", 1, 16), 1000, settings(drafts=3), 4),
        (Group("state", 1, 16, cached=2), 1000, settings(drafts=3), 6),
        (Group("state", 1, 16, each_block=True), 16, settings(), 1),
        (Group("state", 1, 16, each_block=True), 17, settings(), 2),
        (Group("state", 1, 16, each_block=True), 0, settings(), 1),
        (Group("state", 1, 16, each_block=True, cached=1), 17, settings(drafts=1), 4),
    ],
)
def test_a_request_holds_so_many_blocks_of_a_group(
    group: Group, length: int, chosen: CacheSettings, blocks: int
) -> None:
    assert group.blocks_for(length, chosen) == blocks


@pytest.mark.parametrize(
    ("drafted", "loads", "seqs", "concurrency", "adapters", "needed"),
    [
        # A step holds more than the drafts of one sequence.
        (3, "nothing", 1, 0, False, 5),
        (3, "nothing", 4, 0, False, 5),
        (3, "nothing", 5, 0, False, 6),
        (3, "nothing", 64, 900, False, 65),
        # A draft model takes a slot of each sequence besides.
        (3, "model", 2, 0, False, 5),
        (3, "model", 64, 0, False, 129),
        (3, "head", 64, 0, False, 65),
        (3, "own", 64, 0, False, 65),
        # With adapters each verified token has a row.
        (3, "nothing", 64, 0, True, 256),
        (3, "model", 64, 0, True, 256),
        (3, "nothing", 1, 0, True, 5),
        # Where nobody pins the sequences, all that are expected.
        (3, "nothing", None, 0, False, 5),
        (3, "nothing", None, 1, False, 5),
        (3, "nothing", None, 2, False, 8),
        (3, "model", None, 40, True, 160),
        (1, "nothing", None, 0, False, 3),
    ],
)
def test_a_step_with_drafts_holds_so_many_tokens_at_least(
    drafted: int, loads: str, seqs: int | None, concurrency: int, adapters: bool, needed: int
) -> None:
    how = Speculation("ngram", drafted, loads, None)  # type: ignore[arg-type]
    told = {
        tokens: [
            problem.message
            for problem in batch_problems(
                how, seqs, tokens, concurrency=concurrency, adapters=adapters
            )
        ]
        for tokens in (needed - 1, needed)
    }
    assert told[needed] == []
    assert f"set it to at least {needed}" in told[needed - 1][0]


@pytest.mark.parametrize(("ranks", "tokens"), [(1, 164), (2, 84), (4, 44)])
def test_each_rank_verifies_its_share_of_the_expected_requests_rounded_up(
    ranks: int, tokens: int
) -> None:
    engine = {"speculative": DRAFTS, "maxNumBatchedTokens": tokens - 1}
    plan = plan_of(
        LLAMA_8B,
        engine=engine,
        workload={"promptTokens": 9, "concurrency": 41},
        parallelism={"data": ranks},
    )
    _, _, message = only_problem(plan)
    assert f"set it to at least {tokens}" in message


@pytest.mark.parametrize(
    ("batch", "largest"),
    [(None, 512), (513, 512), (512, 512), (511, 256), (256, 256), (255, 1)],
)
def test_the_largest_graph_is_the_largest_size_that_a_step_still_holds(
    batch: int | None, largest: int
) -> None:
    sizes = ["--cudagraph-capture-sizes", "1", "256", "512"]
    batched = {} if batch is None else {"maxNumBatchedTokens": batch, "maxNumSeqs": 4}
    limits = {"maxModelLen": 200, **batched}
    told = {}
    other = 511 if largest == 512 else largest + 1
    for size in (largest, other):
        words = [f"--max-cudagraph-capture-size={size}", *sizes]
        plan = plan_of(LLAMA_8B, engine={"extraArgs": words, **limits})
        told[size] = [one.message for one in plan.problems or ()]
    assert told[largest] == []
    assert f"is {largest}; set it to {largest}, or remove it" in told[other][0]


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("spec.engine.chunkedPrefill", "IllegalPin"),
        ("spec.engine.dtype", "IllegalPin"),
        ("spec.engine.extraArgs", "IllegalPin"),
        ("spec.engine.kvCacheDtype", "IllegalPin"),
        ("spec.engine.speculative.method", "IllegalPin"),
        ("spec.gpu.product", "Infeasible"),
        ("spec.parallelism.pipeline", "IllegalPin"),
    ],
)
def test_what_the_engine_refuses_is_a_pin_but_for_the_gpu(
    field: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version_support, "refused", lambda *_: Refusal(field, "why"))
    found = version_support.constraint_problem(None, VERSION)  # type: ignore[arg-type]
    assert found is not None
    assert (found.field, type(found).__name__, found.message) == (field, reason, "why")


def test_every_field_that_the_engine_refuses_is_one_of_those() -> None:
    assert {row["field"] for row in rows("refusals.csv")} == {
        *("spec.engine.chunkedPrefill", "spec.engine.dtype", "spec.engine.extraArgs"),
        *("spec.engine.kvCacheDtype", "spec.engine.speculative.method", "spec.gpu.product"),
        "spec.parallelism.pipeline",
    }


STATE, NOTHING, ATTENTION = range(3)
"""Kinds of layers of Nemotron-H: recurrent, a feed-forward that keeps nothing, attention."""


@pytest.mark.parametrize(
    ("pattern", "pipeline", "layers"),
    [
        ((STATE, NOTHING, ATTENTION, NOTHING), 2, None),
        ((NOTHING, STATE, NOTHING, ATTENTION), 2, None),
        ((NOTHING, NOTHING, STATE, ATTENTION), 2, "0 to 1"),
        ((STATE, ATTENTION, NOTHING, NOTHING), 2, "2 to 3"),
        ((STATE, ATTENTION, NOTHING, NOTHING), 1, None),
        ((STATE, NOTHING, ATTENTION, NOTHING), 4, "1 to 1"),
        ((STATE, STATE, NOTHING, STATE, NOTHING, STATE), 3, None),
        ((STATE, STATE, NOTHING, NOTHING, STATE, STATE), 3, "2 to 3"),
    ],
)
def test_a_stage_keeps_something_where_any_of_its_layers_does(
    pattern: tuple[int, ...], pipeline: int, layers: str | None
) -> None:
    why = illegal_stages_because(replace(architecture(NEMOTRON_H), pattern=pattern), pipeline)
    if layers is None:
        assert why is None
    else:
        assert why == f"of {pipeline} pipeline stages, the one of layers {layers} keeps no KV cache"


@pytest.mark.parametrize(
    ("longest", "prompt", "output"),
    [
        (200, 100, 100),
        (511, 256, 255),
        (512, 256, 256),
        (700, 444, 256),
        (1279, 1023, 256),
        (1280, 1024, 256),
        (4096, 1024, 256),
    ],
)
def test_the_request_whose_speed_is_told_is_no_longer_than_the_server_takes(
    longest: int, prompt: int, output: int
) -> None:
    told = plan_of(LLAMA_8B, engine={"maxModelLen": longest}).performance
    assert told is not None
    assert (told.prompt_tokens, told.output_tokens) == (prompt, output)
