"""Markdown, as far as the tests of the documentation read it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
_UNREAD = {".venv", "node_modules", "build", "dist", ".pytest_cache"}


def pages() -> list[Path]:
    """Every Markdown page of the project."""
    return sorted(
        path for path in ROOT.rglob("*.md") if not _UNREAD & set(path.relative_to(ROOT).parts)
    )


def name_of(page: Path) -> str:
    """A page's path in the project."""
    return str(page.relative_to(ROOT))


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


def blocks(page: Path, *languages: str) -> Iterator[Block]:
    """The fenced blocks of these languages."""
    language, begun, body = None, 0, list[str]()
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        if line.startswith("```"):
            if language is None:
                language, begun, body = line[3:].strip(), number + 1, []
            else:
                if language in languages:
                    yield Block(page, begun, language, "\n".join(body) + "\n")
                language = None
        elif language is not None:
            body.append(line)


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def section(page: Path, heading: str) -> str:
    """What stands under a heading of the second level."""
    parts = re.split(r"^## (.+)$", page.read_text(), flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    return found[heading]


def first_cells(text: str) -> set[str]:
    """The first cell of each row of the tables in ``text``, without code marks."""
    rows = re.findall(r"^\| *(.+?) *\|", text, flags=re.MULTILINE)
    return {row.strip("`") for row in rows if not re.fullmatch(r"[-: ]+", row)}


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ +(.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}
