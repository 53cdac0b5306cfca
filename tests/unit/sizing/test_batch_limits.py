"""How the limits of a batch give way while a layout is sought, step by step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from unit.sizing.examples import LLAMA_8B, inputs_for, server
from vllm_operator.sizing.asked.gpu_candidates import gpu_candidates
from vllm_operator.sizing.asked.specification import read_specification
from vllm_operator.sizing.asked.workload import ExpectedLoad, expected_load
from vllm_operator.sizing.layout.batch_limits import BatchLimits, first_limits
from vllm_operator.sizing.layout.knobs import Knob
from vllm_operator.sizing.split.parallelism import SINGLE

DRAFTS = {"method": "ngram", "tokens": 3}
"""A sequence takes four tokens of a step: its own and three that are verified."""
WHOLE = {"chunkedPrefill": False}


def limits(
    seqs: int | None = None, tokens: int | None = None, length: int | None = None, **spec: Any
) -> BatchLimits:
    """Limits of Llama-3.1-8B on an H100, of which those that are given have come about somehow."""
    planned = server(LLAMA_8B, gpu={"product": "H100"}, **spec)
    inputs = inputs_for(planned)
    asked, problems = read_specification(planned, inputs)
    assert asked is not None
    assert not problems
    (gpu,) = gpu_candidates(planned.spec.gpu, inputs)
    found = first_limits(asked, gpu, 2, SINGLE)
    given = {"seqs": seqs, "tokens": tokens, "length": length}
    changed = {name: Knob(value, "given") for name, value in given.items() if value is not None}
    return replace(found, **changed)


def values(found: BatchLimits | None) -> tuple[int, int, int] | None:
    return (found.seqs.value, found.tokens.value, found.length.value) if found else None


def test_limits_start_from_what_the_version_and_the_gpu_have_and_the_model_s_own_length() -> None:
    found = limits()
    assert values(found) == (1024, 8192, 131_072)
    assert found.length.reason == "the model's own limit"


@pytest.mark.parametrize(
    ("seqs", "spec", "fewer"),
    [
        (256, {}, 128),
        (100, {}, 64),
        (65, {}, 64),
        (64, {}, None),
        (100, {"workload": {"concurrency": 40}}, 50),
        (60, {"workload": {"concurrency": 40}}, 40),
        (40, {"workload": {"concurrency": 40}}, None),
        (60, {"engine": {"maxNumActiveSeqs": 40, "version": "0.32.0"}}, 40),
        (60, {"engine": {"maxNumActiveSeqs": 50, "version": "0.32.0"},
              "workload": {"concurrency": 40}}, 50),
    ],
)  # fmt: skip
def test_sequences_are_halved_down_to_those_that_are_asked_for(
    seqs: int, spec: dict[str, Any], fewer: int | None
) -> None:
    found = limits(seqs, **spec).fewer_seqs()
    assert (found.seqs.value if found else None) == fewer


def test_pinned_sequences_are_not_halved() -> None:
    assert limits(engine={"maxNumSeqs": 256}).fewer_seqs() is None


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({}, "lowered from 100 (given): the KV cache needs the room"),
        (
            {"workload": {"concurrency": 70}},
            "lowered from 100 (given): the KV cache needs the room, down to "
            "spec.workload.concurrency",
        ),
        (
            {"engine": {"maxNumActiveSeqs": 70, "version": "0.32.0"}},
            "lowered from 100 (given): the KV cache needs the room, down to "
            "spec.engine.maxNumActiveSeqs",
        ),
    ],
)
def test_what_sequences_were_lowered_to_is_told(spec: dict[str, Any], reason: str) -> None:
    found = limits(100, **spec).fewer_seqs()
    assert found is not None
    assert found.seqs.reason == reason


@pytest.mark.parametrize(
    ("seqs", "tokens", "spec", "fewer"),
    [
        (256, 8192, {}, (256, 4096)),
        (256, 3000, {}, (256, 2048)),
        (256, 2049, {}, (256, 2048)),
        (256, 2048, {}, None),
        (3000, 4096, {}, (2048, 2048)),
        (None, 5000, {"engine": {"maxNumSeqs": 3000}}, (3000, 3000)),
        (None, 3000, {"engine": {"maxNumSeqs": 3000}}, None),
        (2500, 4000, {"workload": {"concurrency": 2400}}, (2400, 2400)),
        (600, 8000, {"workload": {"concurrency": 600}, "engine": {"speculative": DRAFTS}},
         (600, 4000)),
        (600, 4000, {"workload": {"concurrency": 600}, "engine": {"speculative": DRAFTS}},
         (600, 2400)),
        (256, 8192, {"engine": WHOLE}, None),
    ],
)  # fmt: skip
def test_tokens_of_a_step_are_halved_down_to_2048_or_one_for_each_sequence_that_is_asked_for(
    seqs: int | None, tokens: int, spec: dict[str, Any], fewer: tuple[int, int] | None
) -> None:
    found = limits(seqs, tokens, **spec).fewer_tokens()
    assert ((found.seqs.value, found.tokens.value) if found else None) == fewer


def test_pinned_tokens_are_not_halved() -> None:
    assert limits(engine={"maxNumBatchedTokens": 8192}).fewer_tokens() is None


@pytest.mark.parametrize(
    ("length", "seqs", "spec", "shorter"),
    [
        (8192, 256, {}, (256, 4096, 4096)),
        (5000, 256, {}, (256, 2496, 2496)),  # whole blocks of 16
        (2048, 256, {}, (256, 1024, 1024)),
        (2047, 256, {}, None),  # 1,008 are too short
        (8192, 5000, {}, (5000, 5000, 4096)),
        (8192, 256, {"workload": {"promptTokens": 4000, "outputTokens": 96}}, (256, 4096, 4096)),
        (8192, 256, {"workload": {"promptTokens": 4000, "outputTokens": 97}}, None),
    ],
)
def test_without_chunked_prefill_the_length_is_halved_and_the_step_with_it(
    length: int, seqs: int, spec: dict[str, Any], shorter: tuple[int, int, int] | None
) -> None:
    found = limits(seqs, 9000, length, engine=WHOLE, **spec)
    assert values(found.shorter(16)) == shorter


@pytest.mark.parametrize(
    "engine",
    [{}, {**WHOLE, "maxModelLen": 8192}, {**WHOLE, "maxNumBatchedTokens": 8192}],
    ids=["chunked", "length pinned", "tokens pinned"],
)
def test_no_length_is_halved_where_a_prompt_may_be_parted_or_a_limit_is_pinned(
    engine: dict[str, Any],
) -> None:
    assert limits(engine=engine).shorter(16) is None


@pytest.mark.parametrize(
    ("seqs", "tokens", "engine", "bounded"),
    [
        (256, 255, {}, 255),
        (256, 256, {}, 256),
        (256, 1023, {"speculative": DRAFTS}, 255),
        (256, 1024, {"speculative": DRAFTS}, 256),
        (256, 3, {"speculative": DRAFTS}, 1),
        (None, 100, {"maxNumSeqs": 256}, 256),
    ],
)
def test_there_are_no_more_sequences_than_a_step_has_tokens_for(
    seqs: int | None, tokens: int, engine: dict[str, Any], bounded: int
) -> None:
    assert limits(seqs, tokens, engine=engine).bounded_by_a_step().seqs.value == bounded


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        ({}, "a step has tokens for no more"),
        ({"maxNumBatchedTokens": 100}, "spec.engine.maxNumBatchedTokens has tokens for no more"),
        (
            {"speculative": DRAFTS},
            "a step has tokens for no more: it verifies 4 of each sequence "
            "(spec.engine.speculative)",
        ),
    ],
)
def test_why_a_step_bounds_sequences_is_told(engine: dict[str, Any], reason: str) -> None:
    pinned = "maxNumBatchedTokens" in engine
    found = limits(256, None if pinned else 100, engine=engine).bounded_by_a_step()
    assert found.seqs.why == reason


def test_without_chunked_prefill_a_step_is_raised_to_the_longest_prompt() -> None:
    raised = limits(256, 2048, 8192, engine=WHOLE).with_whole_prompts()
    assert values(raised) == (256, 8192, 8192)
    pinned = limits(256, None, 8192, engine={**WHOLE, "maxNumBatchedTokens": 2048})
    assert values(pinned.with_whole_prompts()) == (256, 2048, 2048)
    assert values(limits(256, 2048, 8192).with_whole_prompts()) == (256, 2048, 8192)


def test_recurrent_states_want_a_block_for_each_sequence() -> None:
    assert values(limits(256, 2048, 8192).with_states(100)) == (100, 2048, 8192)


@pytest.mark.parametrize(
    ("held", "spec", "followed"),
    [
        # 100 + 28 tokens are expected of each request
        (40, {}, (40, 4096)),  # 40 prompts are 4,000 tokens: up to a multiple of 256
        (41, {}, (41, 4352)),
        (10, {}, (10, 2048)),
        (0, {}, (1, 2048)),
        (10, {"concurrency": 30}, (30, 3072)),
        (300, {}, (256, 8192)),
        (90, {}, (90, 8192)),
    ],
)
def test_limits_follow_the_expected_requests_of_which_so_many_surely_fit(
    held: int, spec: dict[str, int], followed: tuple[int, int]
) -> None:
    first = limits(256, 8192, workload={"promptTokens": 100, "outputTokens": 28, **spec})
    found = first.following(held, first) or first
    assert (found.seqs.value, found.tokens.value) == followed


def test_limits_that_follow_change_nothing_twice() -> None:
    first = limits(256, 8192, workload={"promptTokens": 100, "outputTokens": 28})
    found = first.following(40, first)
    assert found is not None
    assert found.following(40, first) is None


@pytest.mark.parametrize(
    ("length", "spec", "least"),
    [
        (8192, {}, 1024),
        (512, {}, 512),
        (8192, {"workload": {"promptTokens": 3000, "outputTokens": 96}}, 3096),
        (8192, {"workload": {"promptTokens": 100, "outputTokens": 28}}, 1024),
    ],
)
def test_a_layout_is_worth_having_for_1024_tokens_or_what_the_load_needs(
    length: int, spec: dict[str, Any], least: int
) -> None:
    assert limits(length=length, **spec).useful_length == least


@pytest.mark.parametrize(
    ("workload", "limit", "load"),
    [
        (None, 32_768, ExpectedLoad(1024, 256, None, False)),
        (None, 1280, ExpectedLoad(1024, 256, None, False)),
        (None, 1279, ExpectedLoad(1023, 256, None, False)),
        (None, 500, ExpectedLoad(250, 250, None, False)),
        ({"promptTokens": 400}, 500, ExpectedLoad(400, 100, None, True)),
        ({"promptTokens": 400}, 32_768, ExpectedLoad(400, 256, None, True)),
        ({"promptTokens": 500}, 500, ExpectedLoad(500, 1, None, True)),
        ({"outputTokens": 400}, 500, ExpectedLoad(100, 400, None, True)),
        ({"outputTokens": 500}, 500, ExpectedLoad(1, 500, None, True)),
        ({"concurrency": 9}, 32_768, ExpectedLoad(1024, 256, 5, True)),
        ({"concurrency": 8}, 32_768, ExpectedLoad(1024, 256, 4, True)),
        ({}, 32_768, ExpectedLoad(1024, 256, None, False)),
    ],
)
def test_what_nobody_states_of_a_request_is_assumed_as_far_as_it_fits(
    workload: dict[str, int] | None, limit: int, load: ExpectedLoad
) -> None:
    given = {} if workload is None else {"workload": workload}
    assert expected_load(server(LLAMA_8B, **given).spec.workload, limit, data=2) == load
