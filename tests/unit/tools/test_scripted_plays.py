"""What the scripted engine plays, and when."""

from __future__ import annotations

import pytest

from scriptedengine.plays import (
    Play,
    before,
    chosen,
    failure,
    fill,
    parse,
    plays,
    ready,
    values,
    version,
)

COMMAND = parse(["org/model", "--max-model-len", "8192", "--gpu-memory-utilization=0.9"])
FRAMED = [play for play in plays().values() if play.frame]


def said(play: Play) -> str:
    """All that a play prints."""
    given = values(COMMAND, {}, "01-01 00:00:00")
    return before(play, given) + failure(play, given)


def test_flags_are_read_with_a_space_and_with_an_equals_sign() -> None:
    assert COMMAND.model == "org/model"
    assert COMMAND.flags == {"--max-model-len": "8192", "--gpu-memory-utilization": "0.9"}


@pytest.mark.parametrize("play", plays().values(), ids=plays())
def test_every_play_says_where_it_is_from(play: Play) -> None:
    assert play.source


@pytest.mark.parametrize("play", FRAMED, ids=[play.name for play in FRAMED])
def test_every_failure_prints_its_error_and_leaves_no_gap(play: Play) -> None:
    text = said(play)
    given = values(COMMAND, {}, "01-01 00:00:00")
    assert fill(play.error.strip("\n"), given) in text
    assert "@" not in text.replace("@huggingface", "")


@pytest.mark.parametrize("play", FRAMED, ids=[play.name for play in FRAMED])
def test_only_failures_of_the_core_end_with_another_error(play: Play) -> None:
    last = said(play).rstrip().splitlines()[-1]
    assert ("Engine core initialization failed" in last) == (play.frame == "core")


@pytest.mark.parametrize(
    ("flags", "variables", "expected"),
    [
        ([], {}, None),
        ([], {"SCRIPTED_PLAY": "hang"}, "hang"),
        (["--max-model-len", "8192"], {"SCRIPTED_KV_TOKENS": "8191"}, "kv-cache-too-small"),
        (["--max-model-len", "8192"], {"SCRIPTED_KV_TOKENS": "8192"}, None),
        (["--gpu-memory-utilization", "0.9"], {"SCRIPTED_FREE_GIB": "70"}, "free-memory"),
        (["--gpu-memory-utilization", "0.8"], {"SCRIPTED_FREE_GIB": "70"}, None),
        (["--max-num-seqs", "65"], {"SCRIPTED_MAX_SEQS": "64"}, "oom-sampler"),
        (["--swap-space", "4"], {}, "unrecognized-argument"),
        (["--swap-space", "4"], {"SCRIPTED_VERSION": "0.17.0"}, None),
        (["--no-enable-prefix-caching"], {}, None),
    ],
)
def test_what_is_played_follows_from_flags_and_variables(
    flags: list[str], variables: dict[str, str], expected: str | None
) -> None:
    play = chosen(parse(["org/model", *flags]), variables)
    assert (play.name if play else None) == expected


def test_an_unknown_play_is_an_error() -> None:
    with pytest.raises(KeyError, match="nonsense"):
        chosen(COMMAND, {"SCRIPTED_PLAY": "nonsense"})


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"LOCALCLUSTER_IMAGE": "scripted/vllm:v0.30.1"}, "0.30.1"),
        ({"LOCALCLUSTER_IMAGE": "scripted/vllm:v0.30.1-cu130"}, "0.30.1"),
        ({"LOCALCLUSTER_IMAGE": "scripted/vllm:latest"}, "0.32.0"),
        ({"LOCALCLUSTER_IMAGE": "a:v0.30.1", "SCRIPTED_VERSION": "0.29.0"}, "0.29.0"),
    ],
)
def test_its_version_is_the_tags_unless_it_is_told_another(
    variables: dict[str, str], expected: str
) -> None:
    assert version(variables) == expected


@pytest.mark.parametrize(("given_version", "lines"), [("0.27.0", 2), ("0.28.0", 1)])
def test_older_versions_print_tokens_and_concurrency_apart(given_version: str, lines: int) -> None:
    variables = {"SCRIPTED_VERSION": given_version}
    text = ready(COMMAND, variables, values(COMMAND, variables, "01-01 00:00:00"))
    found = [
        line for line in text.splitlines() if "KV cache size" in line or "Maximum conc" in line
    ]
    assert len(found) == lines
