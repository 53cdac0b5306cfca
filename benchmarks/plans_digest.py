"""One digest of many plans: whether two commits plan the same.

    PYTHONPATH=operator:tests python benchmarks/plans_digest.py

Plans what the property tests draw (with a fixed seed), every model of the catalogue on every GPU,
and the examples, those with the objects that would be applied. Prints a line for each with the
number of plans and a digest of their JSON, and one of all. Two commits whose last lines are equal
plan the same; run it on both with the same versions of Hypothesis and Python.

A commit that writes more into a plan is compared without that: `--without advice
--without performance.bounds` on both.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

from properties.test_planning import PRODUCTS, specifications
from properties.test_reasons import repaired_specifications
from unit.sizing.examples import inputs_for, server
from vllm_operator.api.canonical import canonical_json
from vllm_operator.cli.documents import read_manifests
from vllm_operator.cli.plan import plan_manifests, surroundings
from vllm_operator.manifests.planned import Planned
from vllm_operator.models import catalogue
from vllm_operator.sizing.plan.planner import make_plan

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.yaml"))
DRAWN = 500
Documents = Iterator[Any]


def drawn(strategy: SearchStrategy[Any]) -> Documents:
    """The plans of specifications that Hypothesis draws, the same ones each time."""
    found: list[Any] = []

    @settings(
        max_examples=DRAWN,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def plan(drawn: Any) -> None:
        found.append(make_plan(*drawn).to_json_object())

    plan()
    yield from found


def catalogued() -> Documents:
    """Every model on every GPU."""
    for model, gpu in product(catalogue.known_models(), PRODUCTS):
        planned = server(model, gpu={"product": gpu})
        yield make_plan(planned, inputs_for(planned)).to_json_object()


def examples() -> Documents:
    """The examples without a cluster, as they are and on two GPUs, with their objects."""
    for path, gpu in product(EXAMPLES, (None, "H100", "L4")):
        around = surroundings(None, gpu, None, offline=True)
        for found in plan_manifests(read_manifests(str(path)), around):
            if isinstance(found, Planned):
                yield [found.plan.to_json_object(), *found.objects]
            else:
                yield [found.to_json_object()]


def without(document: Any, paths: Sequence[str]) -> Any:
    """A plan (or a plan and its objects) less what stands at ``paths``."""
    if isinstance(document, list):
        return [without(document[0], paths), *document[1:]]
    found = dict(document)
    for path in paths:
        name, _, rest = path.partition(".")
        if rest and isinstance(found.get(name), dict):
            found[name] = without(found[name], [rest])
        elif not rest:
            found.pop(name, None)
    return found


def main() -> None:
    """Print each part's digest, and that of all."""
    parser = argparse.ArgumentParser(description="One digest of many plans")
    parser.add_argument("--without", action="append", default=[], metavar="PATH")
    left_out = parser.parse_args().without
    parts: dict[str, Callable[[], Documents]] = {
        "specifications": lambda: drawn(specifications()),
        "repaired specifications": lambda: drawn(repaired_specifications()),
        "catalogue x GPUs": catalogued,
        "examples": examples,
    }
    every, total = hashlib.sha256(), 0
    for name, documents in parts.items():
        part, count = hashlib.sha256(), 0
        for document in documents():
            text = canonical_json(without(document, left_out)).encode() + b"\n"
            part.update(text)
            every.update(text)
            count += 1
        total += count
        print(f"{name:<24}{count:>7} {part.hexdigest()}")
    print(f"{'all':<24}{total:>7} {every.hexdigest()}")


if __name__ == "__main__":
    main()
