"""Building, with a `go` that only writes what it was asked for: once, atomically, with its say."""

import subprocess
import sys
from pathlib import Path

import pytest

from localcluster import binaries
from localcluster.errors import BuildError

# Answers `go version`; for `go build … -o DIRECTORY/ PACKAGE…` it notes the call and makes the
# files, named as go names them.
FAKE_GO = """#!/bin/sh
if [ "$1" = version ]; then echo go version go1.26.0 linux/amd64; exit; fi
echo "$GOTOOLCHAIN $CGO_ENABLED $*" >> "$CALLS"
echo "a line of the compiler"
[ -z "$FAIL" ] || exit 1
sleep "${SECONDS_TO_BUILD:-0}"
while [ "$1" != -o ]; do shift; done
directory=$2; shift 2
for package; do
  name=${package##*/}
  [ "$name" != v3 ] || name=server
  echo "$package" > "$directory$name"
  chmod +x "$directory$name"
done
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with the fake go and an empty cache; the file that its calls go to."""
    go = tmp_path / "bin" / "go"
    go.parent.mkdir()
    go.write_text(FAKE_GO)
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{go.parent}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return tmp_path / "calls"


def test_what_is_missing_is_built_in_one_go_and_then_kept(
    calls: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    built = binaries.ensure("etcd", "kube-apiserver")
    assert built["etcd"].read_text() == "go.etcd.io/etcd/server/v3\n"
    assert built["etcd"].name == "etcd"
    (call,) = calls.read_text().splitlines()
    assert call.startswith("local 0 build -mod=readonly -trimpath ")
    assert call.endswith("go.etcd.io/etcd/server/v3 k8s.io/kubernetes/cmd/kube-apiserver")
    said = capfd.readouterr()
    assert said.out == ""  # so that `$(python -m localcluster path …)` works
    assert "building etcd, kube-apiserver from tools/controlplane/go.mod" in said.err
    assert binaries.ensure("etcd", "kube-apiserver") == built
    assert len(calls.read_text().splitlines()) == 1


def test_only_what_is_missing_is_built(calls: Path) -> None:
    binaries.ensure("kwok")
    binaries.ensure("kwok", "helm")
    packages = [line.rpartition("/ ")[2] for line in calls.read_text().splitlines()]
    assert packages == ["sigs.k8s.io/kwok/cmd/kwok", "helm.sh/helm/v4/cmd/helm"]


def test_what_the_assets_lack_is_built(
    calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assets = tmp_path / "assets"
    assets.mkdir()
    for name in ("etcd", "kube-apiserver", "kubectl"):
        (assets / name).write_text("#!/bin/sh\n")
        (assets / name).chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    found = binaries.ensure("etcd", "kube-apiserver", "kube-scheduler", "kubectl")
    assert {name for name, path in found.items() if path.parent == assets} == {
        "etcd",
        "kube-apiserver",
        "kubectl",
    }
    assert calls.read_text().rstrip().endswith("/ k8s.io/kubernetes/cmd/kube-scheduler")


def test_a_build_that_fails_shows_the_compilers_last_lines_and_leaves_nothing_half_done(
    calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL", "1")
    with pytest.raises(BuildError, match=r"status 1; the log is [^$]*a line of the compiler"):
        binaries.ensure("helm")
    monkeypatch.delenv("FAIL")
    assert binaries.ensure("helm")["helm"].exists()
    assert not list(binaries.cache_directory().glob("build-*"))


def test_two_processes_that_need_the_same_binary_build_it_once(
    calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECONDS_TO_BUILD", "1")
    monkeypatch.setenv("PYTHONPATH", str(binaries.TOOLS))
    command = [sys.executable, "-m", "localcluster", "path", "helm"]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert len({out for out, _err in answers}) == 1
    assert Path(answers[0][0].strip()).exists()
    assert sum("another process is building clustertools" in err for _out, err in answers) == 1
    assert len(calls.read_text().splitlines()) == 1
