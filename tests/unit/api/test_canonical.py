"""What means the same has the same text, and nothing else has."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.api.canonical import canonical_json, digest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1}, {"a": 1, "b": None}),
        ({"a": 1.0}, {"a": 1}),
        ({"a": [{"b": 1.0, "c": None}]}, {"a": ({"b": 1},)}),
    ],
)
def test_order_nulls_and_the_spelling_of_whole_numbers_mean_nothing(one: Any, other: Any) -> None:
    assert canonical_json(one) == canonical_json(other)
    assert digest(one) == digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 0.9}, {"a": 0.95}),
        ({"a": 0.9}, {"a": 0}),
        ({"a": 1}, {"a": "1"}),
        ({"a": 1}, {"a": True}),
        ({"a": 0}, {}),
        ({"a": ""}, {}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"a": [None]}, {"a": []}),
    ],
)
def test_another_value_is_another_text(one: Any, other: Any) -> None:
    assert canonical_json(one) != canonical_json(other)
    assert digest(one) != digest(other)


def test_a_digest_is_as_long_as_it_is_asked_for_and_stays_what_it_is() -> None:
    # sha256 of {"a":1}
    assert digest({"a": 1.0}) == "015abd7f5cc57a2d"
    assert digest({"a": 1}, 8) == "015abd7f"
