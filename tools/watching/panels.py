"""What a dashboard shows: panels with their unit and queries, as data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["lines", "number", "words", "states", "table"]
TOKENS_A_SECOND = "suffix: tok/s"
TOKENS = "suffix: tokens"


@dataclass(frozen=True)
class Query:
    """PromQL, and what its series are called: a text with ``{{label}}``."""

    expr: str
    called: str


@dataclass(frozen=True)
class Panel:
    """A panel; ``unit`` is Grafana's name of one, or ``suffix:`` and a text."""

    title: str
    about: str
    unit: str
    queries: Sequence[Query]
    kind: Kind = "lines"
    width: int = 8
    """Of 24."""
    height: int = 8
    units: Sequence[tuple[str, str]] = ()
    """Of single columns of a table, by the query's name."""


@dataclass(frozen=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Board:
    """A dashboard; the variables of what it looks at are ``namespace`` and perhaps ``server``."""

    uid: str
    title: str
    about: str
    rows: Sequence[Row]
    of_one_server: bool

    @property
    def panels(self) -> list[Panel]:
        """All panels, in their order."""
        return [panel for row in self.rows for panel in row.panels]
