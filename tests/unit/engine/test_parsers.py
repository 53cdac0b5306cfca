"""Parsers of tool calls and reasoning are those of the version."""

import pytest

from vllm_operator.engine.parsers import REASONING, TOOL_CALLS, parsers, refusal
from vllm_operator.engine.tables import rows
from vllm_operator.engine.versions import Version

NEW = Version.parse("0.30.0")


@pytest.mark.parametrize(
    ("flag", "name", "version"),
    [
        (TOOL_CALLS, "hermes", "0.8.5"),
        (TOOL_CALLS, "glm4_moe", "0.10.0"),
        (TOOL_CALLS, "kimi_k2", "0.30.0"),
        (REASONING, "deepseek_r1", "0.8.0"),
        (REASONING, "openai_gptoss", "0.30.0"),
    ],
)
def test_a_parser_that_the_version_has_is_accepted(flag: str, name: str, version: str):
    assert refusal(flag, name, Version.parse(version)) is None


def test_a_parser_of_a_later_version_is_refused_with_that_version():
    text = refusal(TOOL_CALLS, "qwen3_coder", Version.parse("0.8.5"))
    assert text is not None
    assert "which came with 0.10.0" in text
    assert "hermes" in text


def test_a_misspelt_parser_is_refused_with_the_nearest():
    text = refusal(REASONING, "qwen_3", NEW)
    assert text is not None
    assert "did you mean qwen3?" in text


def test_every_version_has_parsers():
    for version in ("0.8.0", "0.33.0"):
        for flag in (TOOL_CALLS, REASONING):
            assert parsers(flag, Version.parse(version))


def test_every_row_has_a_source():
    tables = ("parsers.csv", "lora.csv", "compilation.csv", "half_precision.csv", "rejection.csv")
    for table in tables:
        assert all(row["source"] for row in rows(table)), table
