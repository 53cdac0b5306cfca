"""Whether looks for a better setting, some time apart, say the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from .durations import Durations
from .knobs import Knobs
from .proposals import Proposal, Reason, Rest
from .standing import Proposal as Found

NEAR: Final = 1.15
"""Ratio of two caps up to which two looks propose the same."""

FOUND: Final = {
    Reason.PINNED: Found.PINNED,
    Reason.CAP_NOT_BINDING: Found.CAP_NOT_BINDING,
    Reason.NOTHING_TO_GAIN: Found.SETTLED,
    Reason.NOT_WORTH_A_START: Found.SETTLED,
    Reason.SCALE_OUT: Found.SCALE_OUT,
}
"""Of why nothing is tried; the other reasons leave it open."""


@dataclass(slots=True)
class Agreement:
    """What looks for a better setting found, and since when they say the same."""

    choice: Proposal | Rest | None = None
    since: float = 0.0
    at: float = float("-inf")

    def note(self, choice: Proposal | Rest, now: float) -> None:
        """A proposal stays what it was while the next ones are near it; a reason is the newest."""
        agree = _agree(self.choice, choice)
        if not agree:
            self.since = now
        if not agree or isinstance(choice, Rest):
            self.choice = choice
        self.at = now

    def confirmed(self, durations: Durations) -> Proposal | Rest | None:
        """What two looks, far enough apart, agree on."""
        return self.choice if self.at - self.since >= durations.hysteresis else None

    def found(self, proposed: Knobs | None, durations: Durations) -> Found:
        """What looking came to, beside the setting that is ``proposed`` already."""
        choice = self.confirmed(durations)
        if isinstance(choice, Rest):
            return FOUND.get(choice.reason, Found.UNDECIDED)
        if choice is None:
            return Found.UNDECIDED
        same = proposed is not None and near(proposed, choice.knobs)
        return Found.SAME if same else Found.OTHER


def _agree(one: Proposal | Rest | None, other: Proposal | Rest) -> bool:
    if isinstance(one, Proposal) and isinstance(other, Proposal):
        return near(one.knobs, other.knobs)
    if isinstance(one, Rest) and isinstance(other, Rest):
        return FOUND.get(one.reason) is FOUND.get(other.reason)
    return False


def near(one: Knobs, other: Knobs) -> bool:
    """Whether two settings differ by no more than noise moves a choice."""
    caps = sorted((one.cap, other.cap))
    rest = replace(one, max_num_seqs=1, max_num_active_seqs=None)
    same = rest == replace(other, max_num_seqs=1, max_num_active_seqs=None)
    return same and caps[1] <= NEAR * caps[0]
