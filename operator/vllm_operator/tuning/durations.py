"""Every duration of tuning, as a multiple of one interval."""

from __future__ import annotations

from dataclasses import dataclass

INTERVAL_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Durations:
    """Seconds, all from the length of one interval: scaling it scales all of them alike."""

    interval: float = INTERVAL_SECONDS
    """Between two samples of a series: the scrape interval where that is longer."""

    @property
    def block(self) -> float:
        """For which one effect of the surroundings is fitted; 10 minutes."""
        return 40 * self.interval

    @property
    def history(self) -> float:
        """How far back samples are asked for when nothing is known yet; 6 hours."""
        return 1440 * self.interval

    @property
    def window(self) -> float:
        """Of which the diagnosis speaks, and after which a proposal that may not be tried is looked
        at again; 30 minutes."""
        return 120 * self.interval

    @property
    def evaluation(self) -> float:
        """Between two looks for a better setting; 5 minutes."""
        return 20 * self.interval

    @property
    def hysteresis(self) -> float:
        """Between two looks that must agree; 10 minutes."""
        return 40 * self.interval

    @property
    def recommendation(self) -> float:
        """Between two things told of a proposal that is not tried; 1 hour."""
        return 240 * self.interval

    @property
    def stale(self) -> float:
        """After which the newest sample is too old; 1 minute."""
        return 4 * self.interval

    @property
    def settled(self) -> float:
        """For which all replicas were ready, and none came or went, before a trial; 15 minutes."""
        return 60 * self.interval

    @property
    def warm_up(self) -> float:
        """After ready, in which a trial's pod is not judged; 2 minutes."""
        return 8 * self.interval

    @property
    def cold_cache(self) -> float:
        """After which a trial is judged though its prefix cache hits less; 15 minutes."""
        return 60 * self.interval

    @property
    def starved(self) -> float:
        """After which a trial that gets too little load is told; 15 minutes."""
        return 60 * self.interval

    @property
    def trial(self) -> float:
        """The longest that a trial is judged; 2 hours."""
        return 480 * self.interval

    @property
    def quiet_trial(self) -> float:
        """The same where less than one request arrives in four intervals; 8 hours."""
        return 1920 * self.interval

    @property
    def lost(self) -> float:
        """For which evidence may be missing before a trial ends; 30 minutes."""
        return 120 * self.interval

    @property
    def verification(self) -> float:
        """For which a promoted setting is watched; 1 hour."""
        return 240 * self.interval

    @property
    def cool_down(self) -> float:
        """After a verdict that was no rollback; 1 hour."""
        return 240 * self.interval

    @property
    def cool_down_after_rollback(self) -> float:
        """After the first rollback, doubling with each that follows; 4 hours."""
        return 960 * self.interval

    @property
    def longest_cool_down(self) -> float:
        """Where doubling ends, and what a day's trials are counted over; 24 hours."""
        return 5760 * self.interval

    day = longest_cool_down

    @property
    def drift(self) -> float:
        """For which a changed load makes a settled server look again; 30 minutes."""
        return self.window

    @property
    def broken(self) -> float:
        """For which a broken objective makes a settled server look again; 15 minutes."""
        return 60 * self.interval

    @property
    def out_of_memory(self) -> float:
        """For which utilization is not raised after memory ran out; 30 days."""
        return 30 * self.day
