"""vLLM's own argument parsers, of several versions, against the planner and the tables of flags."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pytest

from realengine import compare
from realengine.commandlines import command_lines
from realengine.environments import PARSERS, SERVING, Environment, Parsed, installed
from vllm_operator.engine import defaults, flags
from vllm_operator.engine.versions import Version

pytestmark = pytest.mark.timeout(600)  # the first test waits for all parsers
COMMANDS = 2000
LOCKS = [lock for lock in (*PARSERS, SERVING) if lock.supports_this_python]
REFUSED = [
    (["serve", "m", "--disable-cuda-graph"], "--disable-cuda-graph"),
    (["serve", "m", "--max-num-seqs", "many"], "--max-num-seqs"),
    (["serve", "m", "--dtype", "int9"], "--dtype"),
]
"""What every parser refuses: it would be no parser else."""

BY_CHANCE = {("0.8.5", "--guided-decoding-backend")}
"""Two lists of choices lie in a set, and vLLM takes the first (``engine/arg_utils.py``,
``get_kwargs``): each start another. The table has what both have."""

in_every_version = pytest.mark.parametrize("version", [lock.version for lock in LOCKS])


@cache
def commands(version: str) -> list[list[str]]:
    """The planner's, without the program's name."""
    return [command[1:] for command in command_lines(version, COMMANDS)]


@pytest.fixture(scope="module")
def parsed() -> dict[str, Parsed]:
    """By version, what its parser says to the planner's commands and to those it must refuse."""
    found = [installed(lock) for lock in LOCKS]
    assert None not in found, "a parser is not installed: `make engine` does that"

    def ask(environment: Environment) -> Parsed:
        vectors = [*commands(environment.lock.version), *(refused for refused, _ in REFUSED)]
        return environment.parse(vectors)

    with ThreadPoolExecutor(2) as pool:  # importing vLLM takes one core 20 s
        answers = pool.map(ask, [environment for environment in found if environment])
    return {lock.version: answer for lock, answer in zip(LOCKS, answers, strict=True)}


@in_every_version
def test_it_is_the_parser_of_that_version(version: str, parsed: dict[str, Parsed]) -> None:
    assert parsed[version].version.startswith(version)


@in_every_version
def test_no_planned_command_is_refused(version: str, parsed: dict[str, Parsed]) -> None:
    planned = commands(version)
    assert len({tuple(command) for command in planned}) == COMMANDS
    refusals = parsed[version].refusals[:COMMANDS]
    refused = [(what, command) for command, what in zip(planned, refusals, strict=True) if what]
    assert refused == []


@in_every_version
def test_the_parser_does_refuse_what_is_wrong(version: str, parsed: dict[str, Parsed]) -> None:
    for (_, flag), refusal in zip(REFUSED, parsed[version].refusals[COMMANDS:], strict=True):
        assert refusal is not None
        assert flag in refusal


@in_every_version
def test_the_table_has_exactly_the_parsers_flags(version: str, parsed: dict[str, Parsed]) -> None:
    real = {spelling for flag in parsed[version].flags for spelling in flag["spellings"]}
    assert set(flags.serve_flags(Version.parse(version))) == real


@in_every_version
def test_the_table_knows_what_each_flag_takes(version: str, parsed: dict[str, Parsed]) -> None:
    table = flags.serve_flags(Version.parse(version))
    real = {
        spelling: flag["takes"] for flag in parsed[version].flags for spelling in flag["spellings"]
    }
    assert {spelling: flag.takes for spelling, flag in table.items()} == real


@in_every_version
def test_the_table_has_exactly_the_parsers_choices(version: str, parsed: dict[str, Parsed]) -> None:
    table = flags.serve_flags(Version.parse(version))
    for flag in parsed[version].flags:
        if flag["takes"] != flags.SWITCH:
            first = table[flag["spellings"][0]]
            if (version, first.spelling) in BY_CHANCE:
                assert set(first.choices) <= set(flag["choices"]), first.spelling
            else:
                assert sorted(first.choices) == flag["choices"], first.spelling


def test_the_serving_release_says_nothing_otherwise_than_the_tables(
    parsed: dict[str, Parsed],
) -> None:
    environment = installed(SERVING)
    assert environment is not None
    (packages,) = environment.directory.glob("lib/python3*/site-packages")
    assert compare.differences(compare.read(packages, parsed[SERVING.version])) == []


@in_every_version
def test_every_value_that_the_planner_may_give_is_a_choice(
    version: str, parsed: dict[str, Parsed]
) -> None:
    for flag in parsed[version].flags:
        if flag["choices"]:
            (name, *_) = [text for text in flag["spellings"] if text.startswith("--")]
            given = defaults.accepted_values(name, Version.parse(version))
            assert set(given) <= set(flag["choices"]), name
