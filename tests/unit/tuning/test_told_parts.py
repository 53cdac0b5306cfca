"""A proposal and a trial's end are told part by part: only what is not known is left out."""

from __future__ import annotations

import pytest

from unit.tuning.test_ledger import MEASURED, NOW, TRIAL
from vllm_operator.tuning.ledger import ended
from vllm_operator.tuning.story import proposed, told

PREDICTED = "; predicted 1240 (1180 to 1300)"
EVIDENCE = "; from 240 intervals with 3120 requests"


@pytest.mark.parametrize(
    ("without", "parts"),
    [
        ({}, (True, True)),
        ({"predicted": None}, (False, True)),
        ({"evidence": None}, (True, False)),
        ({"predicted": None, "evidence": None}, (False, False)),
    ],
)
def test_a_proposal_leaves_out_what_it_does_not_know(
    without: dict[str, None], parts: tuple[bool, bool]
) -> None:
    said = proposed(TRIAL.model_copy(update=without))
    assert said.startswith("max-num-seqs 256 -> 96, ")
    assert (PREDICTED in said, EVIDENCE in said) == parts


@pytest.mark.parametrize(
    ("predicted", "measured", "parts"),
    [
        (True, True, (True, True)),
        (True, False, (False, False)),
        (False, True, (False, True)),
        (False, False, (False, False)),
    ],
)
def test_a_trial_s_end_leaves_out_what_was_not_measured(
    predicted: bool, measured: bool, parts: tuple[bool, bool]
) -> None:
    trial = TRIAL if predicted else TRIAL.model_copy(update={"predicted": None})
    (entry,) = ended([], trial, NOW + 1800, "Promoted", "it is better", MEASURED)
    said = told(entry if measured else entry.model_copy(update={"measured": None}))
    assert "was promoted after 30 minutes: it is better" in said
    assert ("predicted 1240" in said, "measured over 30 minutes" in said) == parts
