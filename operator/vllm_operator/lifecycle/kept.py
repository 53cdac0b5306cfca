"""The pinned plans of a server by what they are for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import Final

from vllm_operator.errors import UnreadableRevision

from .records import RevisionRecord
from .revisions import Pinned, pinned
from .trials import Trial, trial_of

HISTORY_LIMIT: Final = 5
TRIAL_LIMIT: Final = 10
"""Trials that are remembered: they are what the trials of a day are counted from."""


class Revisions:
    """The pinned plans of a server by what they are for. ``records`` begin with the oldest.

    The newest that can be read is in force. A bounded number is kept beside those that are named:
    the plan in force, the one with which the server was last ready, the one that was given up, and
    the one that a trial in force came from. Trials are none of them, and are kept by themselves.
    """

    def __init__(self, records: Sequence[RevisionRecord], last_ready: str | None = None) -> None:
        self._all = records
        self._records = [one for one in records if not one.trial]
        self._last_ready = last_ready

    @cached_property
    def in_force(self) -> Pinned | None:
        """What runs, or is to run."""
        return _newest(self._records)

    @cached_property
    def before(self) -> Pinned | None:
        """What was in force before it."""
        now = self.in_force
        return _newest([one for one in self._records if now and one.revision < now.revision])

    @cached_property
    def last_ready(self) -> Pinned | None:
        """With which the server was last ready: what it goes back to."""
        if self.in_force is not None and self.in_force.name == self._last_ready:
            return self.in_force
        return self.find(self._last_ready) if self._last_ready else None

    @property
    def unreadable(self) -> list[RevisionRecord]:
        """What is newer than the plan in force, and cannot be read."""
        now = self.in_force
        return [one for one in self._records if now is None or one.revision > now.revision]

    @property
    def next_number(self) -> int:
        """The number of the next plan that is pinned."""
        return self._all[-1].revision + 1 if self._all else 1

    @cached_property
    def trials(self) -> Sequence[Trial]:
        """What was tried, the oldest first; one that no plan was made of yet is among them."""
        return [found for one in self._all if one.trial and (found := trial_of(one)) is not None]

    def trial(self, name: str) -> Trial | None:
        """The trial of that name."""
        return next((one for one in self.trials if one.name == name), None)

    def promoted(self, trial: Trial) -> bool:
        """Whether a plan was made of a trial, as far as what is kept says so."""
        later = [one for one in self.trials if one.pinned.revision > trial.pinned.revision]
        if any(one.was_beside(trial) for one in later):
            return True
        plans = (_newest([one]) for one in self._records)
        return any(one is not None and trial.is_in_force(one) for one in plans)

    def find(self, name: str) -> Pinned | None:
        """The pinned plan of that name."""
        return _newest([one for one in self._records if one.name == name])

    def record(self, kept: Pinned) -> RevisionRecord:
        """The record of a plan of these."""
        return next(one for one in self._all if one.name == kept.name)

    def expendable(self) -> list[RevisionRecord]:
        """What is beyond the bounded history, oldest first."""
        now = self.in_force
        abandoned = now.abandoned.revision if now and now.abandoned else None
        parent = now.tuning.get("parent") if now else None
        named = {now.name if now else None, self._last_ready, abandoned, parent}
        old = self._records[:-HISTORY_LIMIT] if len(self._records) > HISTORY_LIMIT else []
        tried = [one for one in self._all if one.trial][:-TRIAL_LIMIT]
        return [*(one for one in old if one.name not in named), *tried]


def _newest(records: Sequence[RevisionRecord]) -> Pinned | None:
    """The newest that can be read."""
    for record in reversed(records):
        with suppress(UnreadableRevision):
            return pinned(record)
    return None
