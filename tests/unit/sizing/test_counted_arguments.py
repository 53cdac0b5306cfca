"""What the plan counts of extra arguments, each with the spellings that switch it and those that
do not."""

from __future__ import annotations

import pytest

from vllm_operator.engine.versions import Version
from vllm_operator.sizing.asked.extra_arguments import ExtraArguments, read_extra_arguments


def read(version: str, *words: str) -> ExtraArguments:
    found, problems = read_extra_arguments(words, Version.parse(version))
    assert problems == []
    return found


@pytest.mark.parametrize(
    ("version", "words", "captured"),
    [
        ("0.30.0", [], True),
        ("0.30.0", ["-O0"], False),
        ("0.30.0", ["-O1"], True),
        ("0.30.0", ["-cc.cudagraph_mode=NONE"], False),
        ("0.30.0", ["-cc.cudagraph_mode=none"], False),
        ("0.30.0", ["-cc.cudagraph_mode=PIECEWISE"], True),
        ("0.30.0", ["-cc.mode=3"], True),
        ("0.11.0", ['--compilation-config={"use_cudagraph":false}'], False),
        ("0.11.0", ['--compilation-config={"use_cudagraph":true}'], True),
        ("0.11.0", ['--compilation-config={"use_cudagraph":true,"cudagraph_mode":"NONE"}'], False),
    ],
)
def test_graphs_are_captured_unless_they_are_switched_off(
    version: str, words: list[str], captured: bool
) -> None:
    assert read(version, *words).graphs is captured


@pytest.mark.parametrize(
    ("version", "words", "tokens"),
    [
        ("0.30.0", ["--seed=1"], None),
        ("0.30.0", ["--max-cudagraph-capture-size=48"], 48),
        ("0.30.0", ["-cc.max_cudagraph_capture_size=48"], 48),
        ("0.30.0", ["--cudagraph-capture-sizes", "1", "96", "8"], 96),
        ("0.30.0", ['--compilation-config={"cudagraph_capture_sizes":[1,96,8]}'], 96),
        ("0.10.0", ["--cuda-graph-sizes", "200"], 200),
        ("0.10.0", ["--cuda-graph-sizes", "4", "24"], 24),
    ],
)
def test_the_largest_graph_that_is_asked_for_is_read_in_each_spelling(
    version: str, words: list[str], tokens: int | None
) -> None:
    assert read(version, *words).largest_graph == tokens


@pytest.mark.parametrize(
    ("words", "taken"),
    [
        ([], True),
        (["--language-model-only"], False),
        (["--no-language-model-only"], True),
        (['--limit-mm-per-prompt={"image":0,"video":0}'], False),
        (['--limit-mm-per-prompt={"image":0}'], True),
        (['--limit-mm-per-prompt={"video":0}'], True),
        (['--limit-mm-per-prompt={"image":1,"video":0}'], True),
        (['--limit-mm-per-prompt={"image":0,"video":1}'], True),
    ],
)
def test_pictures_are_taken_unless_none_of_any_kind_may_come(words: list[str], taken: bool) -> None:
    assert read("0.30.0", *words).pictures is taken


@pytest.mark.parametrize(
    ("words", "asked"),
    [([], False), (["--async-scheduling"], True), (["--no-async-scheduling"], False)],
)
def test_steps_are_scheduled_ahead_where_that_is_asked_for(words: list[str], asked: bool) -> None:
    assert read("0.30.0", *words).asynchronous is asked


@pytest.mark.parametrize(
    ("words", "share"),
    [
        ([], 0.0),
        (["--moe-backend=triton"], 0.125),
        (["--moe-backend=auto"], 0.0),
        (["--mamba-backend=triton"], 0.05),
        (["--mamba-backend=triton", "--moe-backend=triton"], 0.125),
        (["--mamba-backend=triton", "--moe-backend=auto"], 0.05),
    ],
)
def test_the_largest_share_of_kernels_that_nobody_has_measured_is_left(
    words: list[str], share: float
) -> None:
    assert read("0.32.0", *words).share == share


@pytest.mark.parametrize(
    ("word", "passed_on"),
    [
        ('--compilation-config={"use_inductor":true}', '{"use_inductor":1}'),
        ('--override-generation-config={"do_sample":true}', '{"do_sample":true}'),
    ],
)
def test_only_the_compilation_s_switches_are_numbers_where_python_reads_them(
    word: str, passed_on: str
) -> None:
    assert read("0.8.5", word).value(word.partition("=")[0]) == passed_on
