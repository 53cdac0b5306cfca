"""The stated reason of a rollout."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from support.builders import make_plan, make_server, make_sized
from vllm_operator.lifecycle.changes import first_difference, reason_to_roll
from vllm_operator.lifecycle.revisions import Pinned


def difference(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    return first_difference(make_server(**before).spec, make_server(**now).spec)


def pinned(**spec: Any) -> Pinned:
    return Pinned(
        name="qwen-1",
        uid="u",
        revision=1,
        spec=make_server(**spec).spec,
        replan=None,
        release="1",
        inputs={},
        sized=make_sized(),
        objects=(),
        template="",
    )


def test_a_changed_value_is_named_by_its_path() -> None:
    changed = difference({"engine": {"maxNumSeqs": 256}}, {"engine": {"maxNumSeqs": 128}})
    assert changed == "spec.engine.maxNumSeqs: 256 -> 128"


def test_a_field_that_comes_or_goes_was_or_is_unset() -> None:
    assert difference({}, {"engine": {"maxNumSeqs": 128}}) == (
        "spec.engine.maxNumSeqs: unset -> 128"
    )
    assert difference({"engine": {"maxNumSeqs": 128}}, {}) == (
        "spec.engine.maxNumSeqs: 128 -> unset"
    )


def test_further_changes_are_counted() -> None:
    now = {"engine": {"maxNumSeqs": 128, "enforceEager": True}}
    changed = difference({}, now)
    assert changed is not None
    assert changed.endswith(" (and 1 more)")


def test_a_list_is_one_value() -> None:
    env = [{"name": "A", "value": "b"}]
    assert difference({}, {"engine": {"env": env}}) == (
        'spec.engine.env: unset -> [{"name": "A", "value": "b"}]'
    )


def test_a_long_value_is_cut() -> None:
    changed = difference({}, {"engine": {"env": [{"name": "A", "value": "b" * 500}]}})
    assert changed is not None
    assert len(changed) < 120
    assert changed.endswith("…")


def test_fields_that_act_at_once_roll_nothing() -> None:
    now = {"replicas": 3, "paused": True, "rollout": {"strategy": "InPlace"}}
    assert difference({}, now) is None


def test_a_changed_annotation_is_the_reason_where_no_field_is() -> None:
    again = replace(pinned(), replan="monday")
    assert reason_to_roll(pinned(), again) == (
        "annotation vllm-operator.io/replan: unset -> monday"
    )


def test_another_plan_of_the_same_specification_is_told_by_what_it_changes() -> None:
    engine = make_plan().engine
    other = make_sized(engine={**engine.to_json_object(), "image": "a/b:v0.31.0"})
    told = reason_to_roll(pinned(), replace(pinned(), sized=other))
    assert told == "image vllm/vllm-openai:v0.30.0 -> a/b:v0.31.0"


def test_an_equal_plan_has_no_reason() -> None:
    assert reason_to_roll(pinned(), pinned()) is None
