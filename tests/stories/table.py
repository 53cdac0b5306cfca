"""The table of docs/stories.md: what each story says is what its test holds it to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "stories.md"
NOTHING = "—"


@dataclass(frozen=True)
class Row:
    """One story: its conditions as ``Ready=True Ready``, reasons of events, objects by kind."""

    story: str
    meanwhile: frozenset[str]
    finally_: frozenset[str]
    events: frozenset[str]
    objects: tuple[tuple[str, int], ...]
    test: str
    """File and function, ``test_changing.py::test_…``; with ``[…]`` where one test has several."""

    @property
    def name(self) -> str:
        """The function's part."""
        return self.test.partition("::")[2]


@lru_cache(maxsize=1)
def rows() -> tuple[Row, ...]:
    """All of them, in the page's order."""
    found = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if len(cells) != 6 or not cells[5].startswith("`test_"):
            continue
        story, meanwhile, finally_, events, objects, test = cells
        found.append(
            Row(
                story,
                _quoted(meanwhile),
                _quoted(finally_),
                _quoted(events),
                tuple(sorted(_counted(objects))),
                test.strip("`"),
            )
        )
    return tuple(found)


def row(name: str) -> Row:
    """The story of a test. Raises AssertionError where the page has none, or two."""
    found = [one for one in rows() if one.name == name]
    assert len(found) == 1, f"{PAGE.name} has {len(found)} rows for {name}"
    return found[0]


def _quoted(cell: str) -> frozenset[str]:
    assert "`" in cell or cell == NOTHING, cell
    return frozenset(re.findall(r"`([^`]+)`", cell))


def _counted(cell: str) -> list[tuple[str, int]]:
    if cell == NOTHING:
        return []
    pairs = [part.strip().split(" ") for part in cell.split(",")]
    return [(kind, int(number)) for number, kind in pairs]
