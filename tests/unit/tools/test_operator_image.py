"""Building the operator's image: by Docker or by buildah, played by scripts that take notes."""

import configparser
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from images import operator
from images.base import Base
from localcluster.errors import BuildError

DOCKER = """#!/bin/sh
echo "docker $*" >> "$CALLS"
[ -z "$DOCKER_FAILS" ] || exit 1
[ "$1" != save ] || echo image > "$3"
"""
BUILDAH = """#!/bin/sh
shift 6
echo "buildah $*" >> "$CALLS"
case "$1" in
bud) for option; do case "$option" in --volume=*:/etc/pip.conf:ro)
    file=${option#--volume=}; cp "${file%%:*}" "$CALLS.pip" ;; esac; done ;;
push) target=${3#docker-archive:}; echo image > "${target%%:*}" ;;
esac
"""


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


class Machine:
    """A checkout and a machine's programs, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "checkout"
        self.programs = folder / "bin"
        self.calls = folder / "calls"
        for path in (self.checkout / "operator", self.programs):
            path.mkdir(parents=True)
        (self.checkout / ".dockerignore").write_text("*\n!operator\n!LICENSE\n")
        for name in ("Dockerfile", "LICENSE", "README.md", "operator/a.py"):
            (self.checkout / name).write_text(name)

    def build(self) -> Path:
        path = self.checkout / "build" / "a.tar"
        return operator.operator_archive("localhost/a:1", path, self.checkout)

    def called(self) -> list[str]:
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return [line for line in lines if line != "docker info"]

    def built(self) -> int:
        """How often buildah built, since it was last asked."""
        return sum(call.startswith("buildah bud ") for call in self.called())


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setenv("PATH", f"{made.programs}:/usr/bin:/bin")
    monkeypatch.setenv("CALLS", str(made.calls))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    program(made.programs, "docker", DOCKER)
    program(made.programs, "buildah", BUILDAH)
    below = Base(tmp_path)
    below.tar.write_text("base")
    (tmp_path / "base.sha256").write_text("f" * 64)
    monkeypatch.setattr(operator, "base", lambda: below)
    return made


def test_docker_builds_it_where_an_engine_runs(machine: Machine) -> None:
    path = machine.build()
    assert path.read_text() == "image\n"
    build, save = machine.called()
    assert build == f"docker build --pull --tag localhost/a:1 {machine.checkout}"
    assert save.startswith("docker save --output ")


def test_buildah_builds_the_same_dockerfile_on_the_base_where_no_engine_runs(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_FAILS", "1")
    assert machine.build().read_text() == "image\n"
    *_before, pull, bud, push = machine.called()
    base = "localhost/vllm-operator-base:" + "f" * 16
    assert pull.startswith("buildah pull oci-archive:")
    assert f" --build-arg PYTHON_IMAGE={base} " in bud
    assert bud.endswith(f" --tag localhost/a:1 {machine.checkout}")
    assert " --file" not in bud
    assert push.endswith(":localhost/a:1")


def test_docker_is_asked_each_time_as_it_knows_its_base(machine: Machine) -> None:
    for _ in range(2):
        machine.build()
        assert [call.split()[1] for call in machine.called()] == ["build", "save"]


def test_buildah_does_not_build_the_same_files_again_and_others_it_does(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_FAILS", "1")
    machine.build()
    assert machine.built() == 1
    machine.build()
    (machine.checkout / "README.md").write_text("not in the image")
    machine.build()
    assert machine.built() == 0
    (machine.checkout / "operator" / "a.py").write_text("another")
    machine.build()
    assert machine.built() == 1


def test_of_two_that_want_the_same_image_one_builds_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_FAILS", "1")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: machine.build(), range(2)))
    assert machine.built() == 1


def test_a_build_that_failed_leaves_the_archive_and_is_not_taken_for_a_good_one(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_FAILS", "1")
    path = machine.build()
    machine.called()
    (machine.checkout / "Dockerfile").write_text("another")
    program(machine.programs, "buildah", "#!/bin/sh\nexit 1\n")
    with pytest.raises(BuildError, match="handing the base to buildah failed with status 1"):
        machine.build()
    assert path.read_text() == "image\n"
    program(machine.programs, "buildah", BUILDAH)
    machine.build()
    assert machine.built() == 1
    assert {file.name for file in path.parent.iterdir()} == {"a.tar", "a.key"}


def test_what_docker_built_is_not_taken_for_what_buildah_would(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_FAILS", "1")
    machine.build()
    monkeypatch.setenv("DOCKER_FAILS", "")
    machine.build()
    machine.called()
    monkeypatch.setenv("DOCKER_FAILS", "1")
    machine.build()
    assert machine.built() == 1


@pytest.fixture
def pip(machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with the user's pip.conf and some wheels; none of it is this machine's."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(operator, "_PIP_FILES", (str(tmp_path / "pip.conf"),))
    monkeypatch.setenv("DOCKER_FAILS", "1")
    (tmp_path / "wheels").mkdir()
    (tmp_path / "pip.conf").write_text("[global]\ntimeout = 7\n[install]\nretries = 3\n")
    return tmp_path


def settings(machine: Machine) -> tuple[dict[str, dict[str, str]], str]:
    """What pip is given in the build, and the command of buildah that gives it."""
    machine.build()
    (bud,) = [call for call in machine.called() if call.startswith("buildah bud ")]
    read = configparser.RawConfigParser()
    read.read(f"{machine.calls}.pip")
    return {name: dict(read[name]) for name in read.sections()}, bud


def test_pip_gets_its_settings_and_the_files_that_they_name(
    machine: Machine, pip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = f"{pip}/wheels /of/another/machine"
    monkeypatch.setenv("PIP_FIND_LINKS", links)
    given, bud = settings(machine)
    assert given == {"global": {"timeout": "7", "find-links": links}, "install": {"retries": "3"}}
    assert f"--volume={pip}/wheels:{pip}/wheels:ro" in bud
    assert "/of/another/machine" not in bud


def test_pips_own_file_is_read_and_not_handed_on(
    machine: Machine, pip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = pip / "own.conf"
    own.write_text("[global]\ntimeout = 9\ntrusted_host = a b\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(own))
    given, bud = settings(machine)
    assert given["global"] == {"timeout": "9", "trusted-host": "a b"}
    assert str(own) not in bud
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    (machine.checkout / "LICENSE").write_text("another")
    assert settings(machine)[0] == {"global": {}}


def test_nothing_that_pip_writes_or_installs_elsewhere_is_handed_on(
    machine: Machine, pip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = pip / "pip.log"
    log.touch()
    (pip / "pip.conf").write_text(f"[global]\nlog = {log}\n[install]\ntarget = {pip}/wheels\n")
    monkeypatch.setenv("PIP_LOG", str(log))
    monkeypatch.setenv("PIP_NO_BINARY", ":all:")
    given, bud = settings(machine)
    assert given == {"global": {}, "install": {}}
    assert f"{log}:" not in bud
    assert f"{pip}/wheels:" not in bud


def test_without_docker_it_takes_root(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_FAILS", "1")
    (machine.programs / "buildah").unlink()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BuildError, match=r"takes root: use sudo, or start Docker"):
        machine.build()
