"""Whatever text stands in a specification comes back whole from each format."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from unit.manifests.elsewhere.support import needed, unit_words
from vllm_operator.cli.documents import _Loader
from vllm_operator.manifests.elsewhere.quoting import (
    as_yaml,
    continued,
    interpolated,
    lines,
    shell_word,
    systemd_word,
)

TEXT = st.text(
    st.one_of(
        st.sampled_from("%$\"'\\ \n\t;#&|{}[]:=,~!*?<>`-"),
        st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"),
    )
)
PRINTS_FOR_A_SHELL = 252
"""The version of systemd with which this was seen."""
SIMPLE = ["", "%", "$", "$$", "${HOME}", "%h", "\\", '"', "'", "a b", ";", "\n", "\x7f", "é", "#"]
NO_TEXT = ["1e3", "0o17", "017", "1_000", "1:20", ".5", "yes", "null", "~", "2024-01-01", "0x1f"]


@given(st.lists(TEXT))
def test_words_of_a_command_line_come_back_from_a_unit(words: list[str]) -> None:
    written = " ".join(systemd_word(word, expands=True) for word in words)
    assert "\n" not in written
    assert unit_words(written, expands=True) == words


@given(TEXT)
def test_a_variable_of_a_unit_keeps_its_dollars(value: str) -> None:
    written = systemd_word(f"NAME={value}", expands=False)
    assert unit_words(written, expands=False) == [f"NAME={value}"]


def systemd_version(analyze: str) -> int:
    said = subprocess.run([analyze, "--version"], capture_output=True, check=True, text=True)
    return int(said.stdout.split()[1])


def test_systemd_itself_reads_the_same(tmp_path: Path) -> None:
    found = shutil.which("systemd-analyze")
    old = found is None or systemd_version(found) < PRINTS_FOR_A_SHELL
    name = f"systemd {PRINTS_FOR_A_SHELL} or newer"
    analyze = needed(
        None if old else found, name, "that a reader of its documented rules gives them back"
    )
    candidates = [*SIMPLE, *NO_TEXT, """{"a": "$x%y 'z'"}"""]
    # It prints these two as they are, and a shell would not read them so.
    words = [word for word in candidates if word.isprintable() and word not in ("#", "~")]
    command = " ".join(systemd_word(word, expands=True) for word in words)
    variable = "NOTE=$HOME %h \"a\" 'b' \\ c"
    unit = tmp_path / "x.service"
    unit.write_text(
        f"[Service]\nExecStart=/usr/bin/env {command}\n"
        f"Environment={systemd_word(variable, expands=False)}\n"
    )
    read = subprocess.run(
        [analyze, "verify", str(unit)],
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "debug"},
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    assert f"Environment: {variable}\n" in read
    (line,) = re.findall(r"Command Line: /usr/bin/env (.*)", read)
    # It is printed for a shell, before "$$" becomes "$".
    spoken = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True, text=True
    )
    assert [word.replace("$$", "$") for word in spoken.stdout.split("\0")[:-1]] == words


@given(st.lists(TEXT))
def test_words_come_back_from_a_shell(words: list[str]) -> None:
    assert shlex.split(continued(map(shell_word, words)).replace("\\\n  ", "")) == words


def test_words_come_back_from_bash_itself() -> None:
    words = [*SIMPLE, *NO_TEXT]
    script = f"printf '%s\\0' {continued(map(shell_word, words))}"
    ended = subprocess.run(["bash", "-c", script], capture_output=True, check=True, text=True)
    assert ended.stdout.split("\0")[:-1] == words


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), TEXT))
def test_texts_come_back_from_yaml(document: dict[str, str]) -> None:
    text = as_yaml(document)
    assert yaml.safe_load(text) == document
    assert yaml.load(text, _Loader) == document


@pytest.mark.parametrize("value", NO_TEXT)
def test_what_some_reader_of_yaml_takes_for_no_text_is_quoted(value: str) -> None:
    assert as_yaml({"a": value}) in (f'a: "{value}"\n', f"a: '{value}'\n")


def test_compose_replaces_no_variable() -> None:
    assert interpolated({"a": ["$HOME", 2], "b": "${X}"}) == {"a": ["$$HOME", 2], "b": "$${X}"}


def test_a_flag_stands_on_one_line_with_its_value() -> None:
    given_words = ["model", "--port", "8000", "--enforce-eager", "--seed=1", "--x", "-1"]
    assert lines(given_words, shell_word) == [
        "model",
        "--port 8000",
        "--enforce-eager",
        "--seed=1",
        "--x",
        "-1",
    ]
