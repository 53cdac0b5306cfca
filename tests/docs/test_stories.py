"""docs/stories.md: every row is a test, every test of a story has a row, every reason is known."""

from __future__ import annotations

from stories.table import rows
from stories.telling import stories
from vllm_operator.api.conditions import REASONS, START_FAILURES

WRITTEN_WITHOUT_A_CONDITION = {"Replanned", "PlanRepaired", "Repaired", "RolledBack", "Stopped"}


def test_there_is_a_row_for_each_story_and_a_story_for_each_row() -> None:
    assert sorted(row.test for row in rows()) == sorted(f"{s.file}::{s.name}" for s in stories())
    assert len(rows()) >= 30


def test_every_condition_and_event_that_is_told_exists() -> None:
    for row in rows():
        for condition in row.meanwhile | row.finally_:
            kind, _, rest = condition.partition("=")
            status, _, reason = rest.partition(" ")
            assert status in ("True", "False", "Unknown"), condition
            # Ready has the reason of whatever stops it.
            reasons = set().union(*REASONS.values()) if kind == "Ready" else {*REASONS[kind]}
            assert reason in reasons | {*START_FAILURES}, condition
        for event in row.events:
            kind, _, reason = event.partition(" ")
            told = {*REASONS["Planned"], *REASONS["Tuned"]}
            known = {*START_FAILURES, *told, *WRITTEN_WITHOUT_A_CONDITION}
            assert (kind in ("Normal", "Warning"), reason in known) == (True, True), event
