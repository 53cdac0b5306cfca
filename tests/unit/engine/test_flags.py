"""A flag is accepted or refused as that version's parser does it, and a refusal says what to do."""

from itertools import pairwise

import pytest

from vllm_operator.engine import flags
from vllm_operator.engine.tables import rows
from vllm_operator.engine.versions import NEWEST_KNOWN, Version

OLD, NEW = Version.parse("0.8.5"), Version.parse("0.30.0")


@pytest.mark.parametrize(
    ("argument", "name"),
    [
        ("--max-num-seqs", "--max-num-seqs"),
        ("--max_num_seqs", "--max-num-seqs"),
        ("--max-num-seqs=4", "--max-num-seqs"),
        ("-tp", "--tensor-parallel-size"),
        ("--tensor", "--tensor-parallel-size"),
        ("--no-enable-prefix-caching", "--enable-prefix-caching"),
        ("--compilation-config.mode", "--compilation-config"),
        ("-O3", "--optimization-level"),
    ],
)
def test_every_way_to_write_a_flag_is_read(argument: str, name: str):
    found = flags.find(argument, NEW)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("argument", ["--max-num", "--nothing", "-z", "--max-num-seqs-x"])
def test_what_no_flag_or_several_could_mean_is_no_flag(argument: str):
    assert flags.find(argument, NEW) is None


def test_the_same_short_form_may_mean_another_flag_in_another_version():
    found = flags.find("-O3", OLD)
    assert found is not None
    assert found.name == "--compilation-config"


@pytest.mark.parametrize(
    ("flag", "remedy"),
    [
        ("--swap-space", "remove it: preempted requests are computed again"),
        ("--disable-cuda-graph", "use --enforce-eager"),
        ("--speculative-model", "use --speculative-config"),
        ("--use-v2-block-manager", "remove it: there is only one"),
        ("--cuda_graph_sizes=4", "use --cudagraph-capture-sizes"),
    ],
)
def test_a_flag_that_is_gone_is_refused_with_what_took_its_place(flag: str, remedy: str):
    refusal = flags.refusal(flag, NEW)
    assert refusal is not None
    assert refusal.endswith(remedy)


def test_a_flag_that_comes_later_is_refused_with_its_version():
    assert flags.refusal("--kv-cache-memory-bytes", OLD) == (
        "vLLM 0.8.5 does not have --kv-cache-memory-bytes, which came with 0.10.2; remove it"
    )


def test_a_misspelt_flag_is_refused_with_the_nearest():
    assert flags.refusal("--max-model-length", NEW) == (
        "vLLM 0.30.0 does not have --max-model-length; the nearest is --max-model-len"
    )


def test_a_flag_that_went_for_a_while_is_not_said_to_come():
    refusal = flags.refusal("--collect-detailed-traces", Version.parse("0.9.0"))
    assert refusal is not None
    assert "any more; remove it" in refusal


def test_a_flag_that_exists_is_not_refused():
    assert flags.refusal("--swap-space", OLD) is None


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["m", "--max-num-seqs"], "--max-num-seqs has no value"),
        (["m", "--max-num-seqs", "--enforce-eager"], "--max-num-seqs has no value"),
        (["m", "--enforce-eager", "yes"], "yes follows nothing that takes a value"),
        (["m", "--enforce-eager=yes"], "--enforce-eager takes no value"),
        (["m", "--dtype", "int9"], "--dtype int9 is none of"),
        (["m", "--dtype=int9"], "--dtype int9 is none of"),
        (["m", "n"], "n follows nothing that takes a value"),
    ],
)
def test_a_wrong_command_line_is_told(arguments: list[str], problem: str):
    (found,) = flags.problems(arguments, NEW)
    assert found.startswith(problem)


@pytest.mark.parametrize(
    "arguments",
    [
        ["m"],
        ["m", "--served-model-name", "a", "b", "--enforce-eager"],
        ["m", "--dtype", "bfloat16", "-tp", "2"],
        ["m", "--max-model-len", "-1"],
        ["m", "--kv-cache-dtype=fp8"],
    ],
)
def test_a_right_command_line_has_no_problems(arguments: list[str]):
    assert flags.problems(arguments, NEW) == []


def test_every_row_has_a_source():
    for table in ("flags.csv", "choices.csv", "replaced_flags.csv", "metrics.csv"):
        assert all(row["source"] for row in rows(table)), table


def test_no_flag_that_is_gone_exists_in_the_newest_version():
    known = flags.serve_flags(NEWEST_KNOWN)
    gone = [row["flag"] for row in rows("replaced_flags.csv") if row["flag"] in known]
    # 0.33 has every --disable-x again where there is an --enable-x.
    assert [flag for flag in gone if not known[flag].negative] == []


@pytest.mark.parametrize(
    ("spelling", "off"),
    [
        ("--enable-prefix-caching", False),
        ("--no-enable-prefix-caching", True),
        ("--disable-prefix-caching", True),
        ("--disable-custom-all-reduce", False),
        ("--enable-custom-all-reduce", True),
        ("--no-disable-custom-all-reduce", True),
    ],
)
def test_a_switch_is_turned_off_by_either_of_its_opposites(spelling: str, off: bool):
    found = flags.find(spelling, Version.parse("0.33.0"))
    assert found is not None
    assert found.negative is off


def test_a_switch_has_no_opposite_but_its_negation_before_0_33():
    assert flags.find("--disable-prefix-caching", Version.parse("0.32.0")) is None


def test_the_spans_of_a_spelling_follow_one_another():
    spans: dict[str, list[tuple[str, str]]] = {}
    for row in rows("flags.csv"):
        spans.setdefault(row["flag"], []).append((row["since"], row["until"] or "999"))
    for spelling, found in spans.items():
        for (_, until), (since, _) in pairwise(found):
            assert Version.parse(until).release < Version.parse(since).release, spelling


def test_what_negates_a_flag_is_a_switch():
    known = [row for row in rows("flags.csv") if row["flag"].startswith("--no-")]
    negates = [row for row in known if row["name"] == "--" + row["flag"].removeprefix("--no-")]
    assert len(negates) > 100
    assert {row["takes"] for row in negates} == {"switch"}
