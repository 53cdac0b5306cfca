"""How many repeats and alternatives an expression in a list may have, at the number and beyond."""

from __future__ import annotations

import pytest

from vllm_operator.errors import UnknownModel
from vllm_operator.models.quantization import quantization_from_config


def is_read(pattern: str) -> bool:
    settings = {"quant_method": "fp8", "ignored_layers": [f"re:{pattern}"]}
    try:
        quantization_from_config({"quantization_config": settings})
    except UnknownModel:
        return False
    return True


@pytest.mark.parametrize(("number", "read"), [(1, True), (5, True), (6, False), (40, False)])
def test_five_repeats_one_after_the_other_are_read(number: int, read: bool) -> None:
    assert is_read("a+b" * number) is read


@pytest.mark.parametrize(("groups", "read"), [(1, True), (8, True), (9, False)])
def test_two_hundred_and_fifty_six_ways_through_alternatives_are_read(
    groups: int, read: bool
) -> None:
    assert is_read("(a|b)" * groups) is read


@pytest.mark.parametrize("pattern", [".*down_proj", ".*down_proj.*", ".*down_proj$", "a+b.*$"])
def test_what_anchors_an_expression_is_no_repeat_too_many(pattern: str) -> None:
    assert is_read(pattern)
