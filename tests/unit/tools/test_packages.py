"""What a machine lacks is installed, by root and by one process at a time; apt-get takes notes."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from localcluster import packages
from localcluster.errors import BuildError

PROGRAMS = {"nft": "nftables", "ip": "iproute2"}
APT = """#!/bin/sh
echo "$*" >> "$CALLS"
for name in $BRINGS; do echo > "$BIN/$name"; chmod +x "$BIN/$name"; done
"""


class Machine:
    """A machine's programs, and what its apt-get was called with."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.calls = folder / "calls"
        self.bin.mkdir()
        (self.bin / "sh").symlink_to("/bin/sh")

    def has(self, name: str, text: str = "") -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Root's, with an apt-get that brings nothing, and chmod as the script's own."""
    made = Machine(tmp_path)
    (made.bin / "chmod").symlink_to("/bin/chmod")
    made.has("apt-get", APT)
    monkeypatch.setenv("PATH", str(made.bin))
    monkeypatch.setenv("BIN", str(made.bin))
    monkeypatch.setenv("CALLS", str(made.calls))
    monkeypatch.setenv("BRINGS", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return made


def test_what_is_missing_is_installed_and_said_before(
    machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    machine.has("ip")
    packages.ensure(PROGRAMS, "real nodes")
    assert machine.called() == [
        "update",
        "-o DPkg::Lock::Timeout=300 install --yes --no-install-recommends nftables",
    ]
    said = capfd.readouterr().err
    assert said.startswith("real nodes take nft: installing nftables with apt-get\n")


def test_of_two_processes_one_installs_and_the_other_finds_it_done(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRINGS", "nft ip")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: packages.ensure(PROGRAMS, "real nodes"), range(2)))
    assert [call.split()[0] for call in machine.called()] == ["update", "-o"]


def test_an_installation_that_failed_is_told_with_its_log(machine: Machine) -> None:
    machine.has("apt-get", "#!/bin/sh\necho no such package\nexit 100\n")
    with pytest.raises(BuildError, match=r"(?s)iproute2, nftables failed .* 100.*no such package"):
        packages.ensure(PROGRAMS, "real nodes")


def test_a_machine_without_apt_is_told_what_it_lacks(machine: Machine) -> None:
    (machine.bin / "apt-get").unlink()
    with pytest.raises(BuildError, match=r"^real nodes take nft, ip, which .* iproute2, nftables"):
        packages.ensure(PROGRAMS, "real nodes")


def test_who_is_not_root_is_told_what_to_install(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BuildError, match="or be root on Debian or Ubuntu"):
        packages.ensure(PROGRAMS, "real nodes")
    assert machine.called() == []


def test_a_machine_that_lacks_nothing_needs_neither_root_nor_apt(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (machine.bin / "apt-get").unlink()
    for name in PROGRAMS:
        machine.has(name)
    packages.ensure(PROGRAMS, "real nodes")
