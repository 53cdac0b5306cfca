"""Counts with their units: one of a thing is not told as several."""

import re
from pathlib import Path

import pytest

import vllm_operator
from vllm_operator.api.counting import counted

PACKAGE = Path(vllm_operator.__file__).parent
UNITS = "minutes|intervals|blocks|requests|replicas|sequences|places|pods|nodes|hours"
# "1 of 3 replicas" counts a part, and a figure with decimals, or a rate, is never one of a thing.
WRITTEN_OUT = re.compile(
    rf"(?<! of )(?<!all )\{{(?![A-Z_]+\}})[^{{}}]*(?<!\.\d[fg])\}} ({UNITS})\b"
)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "0 minutes"),
        (1, "1 minute"),
        ("1", "1 minute"),
        (2, "2 minutes"),
        ("1.5", "1.5 minutes"),
    ],
)
def test_one_is_told_as_one_and_all_else_as_several(number: int | str, said: str) -> None:
    assert counted(number, "minute") == said


@pytest.mark.parametrize("room", ["tuning", "lifecycle"])
def test_messages_count_by_the_one_function(room: str) -> None:
    written_out = [
        f"{path.name}: {line.strip()}"
        for path in sorted((PACKAGE / room).glob("*.py"))
        for line in path.read_text().splitlines()
        if WRITTEN_OUT.search(line) and "== 1" not in line
    ]
    assert written_out == []
