"""`python -m realengine.served`: vLLM's architectures, and which of them sizing reads.

Prints `docs/models.md`. The names are those of `architectures.csv` beside this module, which
`compare.py` holds against a release; what is read is asked of the operator itself.
"""

import csv
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from vllm_operator.engine.tables import holds
from vllm_operator.engine.versions import NEWEST_KNOWN
from vllm_operator.models.architecture import decoder_of
from vllm_operator.models.families import FAMILIES
from vllm_operator.models.families.refused import REFUSED

TABLE = Path(__file__).with_name("architectures.csv")
KINDS = {
    "text": "Text",
    "multimodal": "Pictures, videos and sound",
    "pooling": "Pooling",
    "draft": "Drafts",
    "backend": "transformers' own code",
}
HEAD = """\
# Models of vLLM {version}

Every architecture of its registry, and whether sizing reads it. Made from the tables by \
`python -m realengine.served`; a test holds it to the code. What an unread one would take is not \
guessed: the server is refused by the field `spec.model.config.architectures`.

| Kind | In vLLM {version} | Read |
|---|---|---|
"""


def rows() -> list[Mapping[str, str]]:
    """The architectures of the newest release that is known."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if holds(row, NEWEST_KNOWN)]


def state(row: Mapping[str, str]) -> tuple[str, str]:
    """Whether an architecture is read, and by which family, or why it is not."""
    name = row["architecture"]
    decoder = decoder_of(name)
    if decoder is not None:
        label = FAMILIES[decoder].label
        return "yes", label if decoder == name else f"{label}, pooled"
    if name in REFUSED:
        return "no", REFUSED[name]
    return ("yes" if row["note"].startswith("read ") else "no"), row["note"]


def page() -> Iterator[str]:
    """The page, a line each."""
    known = rows()
    states = {row["architecture"]: state(row) for row in known}
    yield from HEAD.format(version=NEWEST_KNOWN).splitlines()
    for kind, title in KINDS.items():
        names = [row["architecture"] for row in known if row["kind"] == kind]
        read = sum(states[name][0] == "yes" for name in names)
        yield f"| {title} | {len(names)} | {read} |"
    read = sum(one == "yes" for one, _ in states.values())
    yield f"| all | {len(known)} | {read} |"
    for kind, title in KINDS.items():
        yield from (
            "",
            f"## {title}",
            "",
            "| Architecture | Read | As, or why not |",
            "|---|---|---|",
        )
        for row in known:
            if row["kind"] == kind:
                yes, why = states[row["architecture"]]
                yield f"| `{row['architecture']}` | {yes} | {why} |"


def main() -> None:
    """Print the page."""
    sys.stdout.write("\n".join(page()) + "\n")


if __name__ == "__main__":
    main()
