"""Building the operator's image: by Docker or by buildah, played by scripts that take notes."""

import configparser
import os
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
    assert build == f"docker build --tag localhost/a:1 {machine.checkout}"
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


def test_the_same_files_are_not_built_again_and_others_are(machine: Machine) -> None:
    machine.build()
    machine.called()
    machine.build()
    (machine.checkout / "README.md").write_text("not in the image")
    machine.build()
    assert machine.called() == []
    (machine.checkout / "operator" / "a.py").write_text("another")
    machine.build()
    assert len(machine.called()) == 2


def test_a_build_that_failed_is_not_taken_for_a_good_one(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.build()
    machine.called()
    (machine.checkout / "Dockerfile").write_text("another")
    program(machine.programs, "docker", '#!/bin/sh\n[ "$1" = info ]\n')
    with pytest.raises(BuildError, match="building the image with Docker failed with status 1"):
        machine.build()
    program(machine.programs, "docker", DOCKER)
    machine.build()
    assert len(machine.called()) == 2


def test_pip_gets_its_settings_and_the_files_that_they_name(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (tmp_path / "pip.conf").write_text("[global]\ntimeout = 7\n[install]\nretries = 3\n")
    monkeypatch.setattr(operator, "_PIP", (str(tmp_path / "pip.conf"),))
    monkeypatch.setenv("PIP_FIND_LINKS", f"{wheels} /of/another/machine")
    monkeypatch.setenv("DOCKER_FAILS", "1")
    machine.build()
    bud = machine.called()[-2]
    assert f"--volume={wheels}:{wheels}:ro" in bud
    assert "/of/another/machine" not in bud
    settings = configparser.RawConfigParser()
    settings.read(f"{machine.calls}.pip")
    assert dict(settings["global"]) == {
        "timeout": "7",
        "find-links": f"{wheels} /of/another/machine",
    }
    assert dict(settings["install"]) == {"retries": "3"}


def test_without_docker_it_takes_root(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_FAILS", "1")
    (machine.programs / "buildah").unlink()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BuildError, match=r"takes root: use sudo, or start Docker"):
        machine.build()
