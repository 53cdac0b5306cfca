"""PromQL over the engines' series, by what they mean; names are those of ``metrics.csv``."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vllm_operator.engine.tables import rows

BY_SERVER = ("namespace", "server")
"""Labels that the chart's PodMonitor and the operator's own metrics share."""


def names(meaning: str) -> list[str]:
    """What a metric is called, the newest name first. Raises KeyError."""
    found = [row["metric"] for row in reversed(rows("metrics.csv")) if row["meaning"] == meaning]
    if not found:
        raise KeyError(meaning)
    return found


@dataclass(frozen=True)
class Engines:
    """The engines that a selector picks, over a window of time."""

    selector: str
    window: str = "$__rate_interval"

    def now(self, meaning: str, more: str = "") -> str:
        """A gauge as it was scraped last."""
        return either(f"{name}{{{self._picked(more)}}}" for name in names(meaning))

    def rate(self, meaning: str, part: str = "", more: str = "", of: str = "rate") -> str:
        """A counter by second; of a histogram its ``part``: ``sum``, ``count`` or ``bucket``."""
        suffix = f"_{part}" if part else ""
        return either(
            f"{of}({name}{suffix}{{{self._picked(more)}}}[{self.window}])"
            for name in names(meaning)
        )

    def quantile(self, share: float, meaning: str, by: Sequence[str] = ()) -> str:
        """Below what so many of a histogram's samples lie."""
        buckets = total(self.rate(meaning, "bucket"), (*by, "le"))
        return f"histogram_quantile({share:g}, {buckets})"

    def mean(self, meaning: str, by: Sequence[str] = ()) -> str:
        """The mean of a histogram's samples; nothing where there are none."""
        return ratio(self.rate(meaning, "sum"), self.rate(meaning, "count"), by)

    def failed(self, by: Sequence[str] = ()) -> str:
        """Of the requests that ended those that an error ended; not every version knows such."""
        all_of_them = self.rate("finishedRequests")
        errors = total(self.rate("finishedRequests", more='finished_reason="error"'), by)
        return f"({errors} or 0 * {total(all_of_them, by)}) / ({total(all_of_them, by)} > 0)"

    def _picked(self, more: str) -> str:
        return ",".join(filter(None, (self.selector, more)))


def either(alternatives: Iterable[str]) -> str:
    """The first of several that is there, series by series."""
    found = list(alternatives)
    return found[0] if len(found) == 1 else f"({' or '.join(found)})"


def total(expression: str, by: Sequence[str] = (), how: str = "sum") -> str:
    """Summed, or brought together by another operator, over all labels but some."""
    kept = f" by ({', '.join(by)}) " if by else ""
    return f"{how}{kept}({expression})"


def ratio(part: str, whole: str, by: Sequence[str] = ()) -> str:
    """One sum over another that is not 0."""
    return f"{total(part, by)} / ({total(whole, by)} > 0)"
