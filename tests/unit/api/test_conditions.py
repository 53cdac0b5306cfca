"""Conditions are merged all at once, and a transition time moves only with its status."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_operator.api.conditions import (
    REASONS,
    Condition,
    ConditionDraft,
    merge_conditions,
    truncate,
)

EARLIER, LATER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def draft(kind: str, status: str, reason: str = "Sized", message: str = "") -> ConditionDraft:
    return ConditionDraft.model_validate(
        {"type": kind, "status": status, "reason": reason, "message": message}
    )


def standing(kind: str, status: str) -> Condition:
    return Condition.model_validate(
        {
            "type": kind,
            "status": status,
            "reason": "Old",
            "message": "old",
            "observedGeneration": 1,
            "lastTransitionTime": EARLIER,
        }
    )


def test_several_conditions_that_change_at_once_are_all_set():
    before = [standing("Planned", "True"), standing("Available", "True"), standing("Ready", "True")]
    after = merge_conditions(
        before,
        [draft("Planned", "False"), draft("Available", "False"), draft("Ready", "False")],
        generation=2,
        now=LATER,
    )
    assert [(c.type, c.status, c.last_transition_time) for c in after] == [
        ("Planned", "False", LATER),
        ("Available", "False", LATER),
        ("Ready", "False", LATER),
    ]


def test_a_new_reason_message_or_generation_does_not_move_the_transition_time():
    (after,) = merge_conditions(
        [standing("Ready", "True")],
        [draft("Ready", "True", "Ready", "new")],
        generation=7,
        now=LATER,
    )
    assert after.to_json_object() == {
        "type": "Ready",
        "status": "True",
        "reason": "Ready",
        "message": "new",
        "observedGeneration": 7,
        "lastTransitionTime": EARLIER,
    }


def test_a_condition_that_is_no_longer_drafted_is_dropped():
    before = [standing("Ready", "True"), standing("Gone", "True")]
    after = merge_conditions(before, [draft("Ready", "True")], generation=1, now=LATER)
    assert [condition.type for condition in after] == ["Ready"]


@pytest.mark.parametrize("length", [0, 1024, 1024 + 1, 10 * 1024])
def test_a_message_is_cut_at_the_limit_and_says_so(length: int):
    cut = truncate("x" * length)
    assert len(cut) == min(length, 1024)
    assert cut.endswith("…") == (length > 1024)


def test_reasons_are_words_that_kubernetes_takes_and_each_has_a_meaning():
    for condition, reasons in REASONS.items():
        assert condition.isalpha()
        for reason, meaning in reasons.items():
            assert reason.isalpha()
            assert reason[0].isupper()
            assert meaning.endswith(".")


STATUSES = st.sampled_from(["True", "False", "Unknown"])
STANDING = st.dictionaries(st.sampled_from("ABCDE"), STATUSES)
DRAFTS = st.dictionaries(st.sampled_from("ABCDE"), STATUSES)


@given(before=STANDING, drafts=DRAFTS)
def test_every_draft_is_set_and_time_moves_exactly_with_status(
    before: dict[str, str], drafts: dict[str, str]
):
    stood = [standing(kind, status) for kind, status in before.items()]
    wanted = [draft(kind, status, message="m" * 2000) for kind, status in drafts.items()]
    after = merge_conditions(stood, wanted, generation=2, now=LATER)
    assert [condition.type for condition in after] == list(drafts)
    for condition in after:
        assert condition.status == drafts[condition.type]
        assert condition.observed_generation == 2
        kept = before.get(condition.type) == drafts[condition.type]
        assert condition.last_transition_time == (EARLIER if kept else LATER)
        Condition.model_validate(condition.to_json_object())
    assert merge_conditions(after, wanted, generation=2, now="2030-01-01T00:00:00Z") == after
