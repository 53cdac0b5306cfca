"""Where a vLLM release refuses a configuration: its raises and asserts, and what is said of each.

`raises.csv` has a row for each `raise` and `assert` between the parser and the workers (`AREA`),
with whether a specification can bring it about (`reach`) and what of ours refuses it first (`by`):

- `spec`: fields, extra arguments or the facts of a model can; without `by` nothing of ours does;
- `refused`: only a flag, a key or a variable can that the operator passes on in no case;
- `never`: an invariant, another platform, what the operator alone sets, a model that is not read.

`python -m realengine.raises` prints how many there are of each.
"""

import ast
import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from vllm_operator.engine.tables import holds
from vllm_operator.engine.versions import NEWEST_KNOWN, Version

TABLE = Path(__file__).with_name("raises.csv")
AREA = (
    "config",
    "engine/arg_utils.py",
    "platforms/interface.py",
    "platforms/cuda.py",
    "platforms/rocm.py",
    "model_executor/models/config.py",
)
"""What runs before the engine's workers do, of the platforms that are planned."""
SAYS = 120
"""Characters of a condition or a message that tell it from its neighbours."""


@dataclass(frozen=True, order=True)
class Raise:
    """A `raise` or an `assert`."""

    file: str
    where: str
    """The class and the function around it."""
    says: str
    """What is raised or asserted, as Python writes it."""


def found(folder: Path) -> list[Raise]:
    """Those of the package `vllm` in `folder`, in the order of its files."""
    package = folder / "vllm"
    places = [package / name for name in AREA]
    files = [
        file
        for place in places
        for file in (sorted(place.rglob("*.py")) if place.is_dir() else [place])
        if file.exists()
    ]
    return [
        Raise(str(file.relative_to(package)), where, says)
        for file in files
        for where, says in _inside(ast.parse(file.read_text(encoding="utf-8")), ())
    ]


def _inside(node: ast.AST, around: Sequence[str]) -> Iterator[tuple[str, str]]:
    for child in ast.iter_child_nodes(node):
        within = around
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            within = (*around, child.name)
        elif isinstance(child, ast.Assert):
            yield ".".join(around), _written(child.test)
        elif isinstance(child, ast.Raise):
            yield ".".join(around), _written(child.exc) if child.exc else "raise"
        yield from _inside(child, within)


def _written(node: ast.AST) -> str:
    return re.sub(r"\s+", " ", ast.unparse(node))[:SAYS]


def rows(version: Version = NEWEST_KNOWN) -> list[dict[str, str]]:
    """The rows of a version."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if holds(row, version)]


def differences(folder: Path, version: Version) -> Iterator[str]:
    """Those of a tree that have no row, and rows that nothing in it is of; nothing for releases
    before the first one that was read."""
    known = Counter(Raise(row["file"], row["where"], row["says"]) for row in rows(version))
    if not known:
        return
    real = Counter(found(folder))
    for one in sorted((real - known).elements()):
        yield f"{one.file} {one.where}: {one.says} has no row of tools/realengine/raises.csv"
    for one in sorted((known - real).elements()):
        yield f"{one.file} {one.where}: {one.says} is in raises.csv, and not here"


def counts(version: Version = NEWEST_KNOWN) -> dict[str, int]:
    """How many there are: `all`, of each `reach`, and of `spec` those that are `covered`."""
    known = rows(version)
    numbers = {"all": len(known), "spec": 0, "refused": 0, "never": 0}
    numbers.update(Counter(row["reach"] for row in known))
    numbers["covered"] = sum(row["reach"] == "spec" and bool(row["by"]) for row in known)
    return numbers


@click.command()
def main() -> None:
    """Print how many raises and asserts there are, and how many are covered."""
    for name, number in counts().items():
        click.echo(f"{name} {number}")


if __name__ == "__main__":
    main()
