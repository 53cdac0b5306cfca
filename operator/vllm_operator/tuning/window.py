"""When trials may begin: ``spec.autotune.window``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError


@dataclass(frozen=True, slots=True)
class Window:
    """It opens as cron would start a job, and stays open for a while.

    A window that closes ends no trial: it only says when one may begin.
    """

    schedule: str
    """Five fields, as in a CronJob."""
    duration: timedelta
    zone: ZoneInfo

    @classmethod
    def read(cls, schedule: str, minutes: int, zone: str | None = None) -> Self:
        """A window that is known to open some day; without a zone in UTC.

        Raises ValueError, which names the part that is wrong, and what works.
        """
        if len(schedule.split()) != 5:
            raise ValueError(f"schedule {schedule!r}: five fields are needed, as in 0 2 * * *")
        try:
            found = ZoneInfo(zone or "UTC")
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"timeZone {zone!r}: no such zone; write {_nearest(zone)}") from None
        window = cls(schedule, timedelta(minutes=minutes), found)
        try:
            opens = next(window._openings(datetime(2026, 1, 1, tzinfo=UTC).timestamp()), None)
        except CronSimError as error:
            raise ValueError(f"schedule {schedule!r}: {error}; write it as in 0 2 * * *") from None
        if opens is None:
            raise ValueError(f"schedule {schedule!r}: it never comes; write it as in 0 2 * * *")
        return window

    def is_open(self, now: float) -> bool:
        """Whether a trial may begin, ``now`` in seconds since the epoch.

        Around the change to and from summer time it opens as Debian's cron starts jobs.
        """
        opened = next(self._openings(now - self.duration.total_seconds()), None)
        return opened is not None and opened <= now

    def _openings(self, after: float) -> Iterator[float]:
        local = datetime.fromtimestamp(after, UTC).astimezone(self.zone)
        for found in CronSim(self.schedule, local):
            # In the hour that winter time repeats, iteration goes by the clock on the wall.
            if found.timestamp() > after:
                yield found.timestamp()


def _nearest(zone: str | None) -> str:
    near = get_close_matches(zone or "", sorted(available_timezones()), 1)
    return near[0] if near else "one as Europe/Berlin, or leave it out for UTC"


NEVER = Window("0 0 1 1 *", timedelta(0), ZoneInfo("UTC"))
"""One that is open for no time: of a schedule that cannot be read."""
