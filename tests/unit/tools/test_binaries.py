"""Which binary is used, and under which name a built one is kept."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcluster import binaries
from localcluster.errors import BuildError

OWN = "vllm-operator.io/tools/"


def kubectl_version(major: str, minor: str) -> str:
    return json.dumps({"clientVersion": {"major": major, "minor": minor}})


def executable(path: Path) -> Path:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("minor", ["35", "36", "37", "36+", "35-eks-abc"])
def test_a_kubectl_within_one_minor_version_is_near(minor: str) -> None:
    assert binaries.kubectl_is_near(kubectl_version("1", minor), server="1.36.3")


@pytest.mark.parametrize(("major", "minor"), [("1", "34"), ("1", "38"), ("2", "36"), ("1", "32+")])
def test_a_kubectl_further_away_is_not_near(major: str, minor: str) -> None:
    assert not binaries.kubectl_is_near(kubectl_version(major, minor), server="1.36.3")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v1.36.3",
        "{}",
        "[]",
        '{"clientVersion": {}}',
        '{"clientVersion": null}',
        kubectl_version("", "36"),
        kubectl_version("1", "x"),
    ],
)
def test_what_is_no_kubectl_version_is_not_near(text: str) -> None:
    assert not binaries.kubectl_is_near(text)


def test_the_version_of_a_dispatcher_is_read_from_its_whole_answer() -> None:
    answer = {
        "clientVersion": {
            "major": "1",
            "minor": "36+",
            "gitVersion": "v1.36.0-dispatcher",
            "platform": "linux/amd64",
        },
        "kustomizeVersion": "v5.5.0",
    }
    assert binaries.kubectl_is_near(json.dumps(answer))


def key(
    files: list[bytes] | None = None,
    flags: list[str] | None = None,
    system: str = "linux",
    machine: str = "x86_64",
) -> str:
    return binaries.cache_key(files or [b"mod", b"sum"], flags or ["-trimpath"], system, machine)


def test_the_cache_key_is_the_same_for_the_same_content() -> None:
    assert key() == key()
    assert len(key()) == 16


def test_the_cache_key_changes_with_each_thing_that_decides_the_binary() -> None:
    keys = [
        key(),
        key(files=[b"mod2", b"sum"]),
        key(files=[b"mod", b"sum2"]),
        key(flags=["-trimpath", "-ldflags=-s"]),
        key(system="darwin"),
        key(machine="arm64"),
    ]
    assert len(set(keys)) == len(keys)


@given(st.lists(st.binary(), min_size=2, max_size=2), st.lists(st.binary(), min_size=2, max_size=2))
def test_different_files_never_run_together_into_one_key(a: list[bytes], b: list[bytes]) -> None:
    assert (key(files=a) == key(files=b)) == (a == b)


def test_the_flags_are_part_of_a_modules_directory_name(tmp_path: Path) -> None:
    names = {binaries.module_cache(module, tmp_path).name for module in binaries.MODULES}
    assert len(names) == len(binaries.MODULES)
    for module in binaries.MODULES:
        assert "-mod=readonly" in module.build_flags()
        assert binaries.module_cache(module, tmp_path).name.startswith(f"{module.name}-")


def test_every_tool_line_of_the_modules_is_known_and_the_other_way_round() -> None:
    known: dict[Path, list[str]] = {}
    for module in binaries.MODULES:
        packages = known.setdefault(module.directory, [])
        packages += [one for one in module.packages.values() if not one.startswith(OWN)]
    for directory, packages in known.items():
        block = (directory / "go.mod").read_text().partition("tool (")[2].partition(")")[0]
        assert sorted(block.split()) == sorted(packages)


def test_the_kubernetes_version_is_the_one_that_the_module_pins() -> None:
    lines = (binaries.TOOLS / "controlplane" / "go.mod").read_text().splitlines()
    assert f"k8s.io/kubernetes v{binaries.KUBERNETES_VERSION}" in {
        line.replace("require ", "").partition(" //")[0].strip() for line in lines
    }
    staging = [line for line in lines if " => " in line]
    minor_and_patch = binaries.KUBERNETES_VERSION.partition(".")[2]
    assert len(staging) > 30
    assert all(line.endswith(f" v0.{minor_and_patch}") for line in staging)


def test_the_go_code_of_the_modules_is_that_of_the_programs_that_are_known() -> None:
    code = {path for module in binaries.MODULES for path in module.directory.rglob("*.go")}
    programs = [one for module in binaries.MODULES for one in module.packages.values()]
    own = [binaries.TOOLS / one.partition("/tools/")[2] for one in programs if one.startswith(OWN)]
    assert code == {program / "main.go" for program in own}


def test_a_change_of_the_go_code_builds_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (module,) = (one for one in binaries.MODULES if one.name == "noderuntime")
    before = binaries.module_cache(module, tmp_path)
    copied = tmp_path / "noderuntime"
    shutil.copytree(module.directory, copied)
    monkeypatch.setattr(binaries, "TOOLS", tmp_path)
    assert binaries.module_cache(module, tmp_path) == before
    (copied / "pause" / "main.go").write_text("package main\n")
    assert binaries.module_cache(module, tmp_path) != before


def test_what_only_a_real_node_runs_is_built_when_it_is_asked_for() -> None:
    everywhere = {name for one in binaries.MODULES if one.everywhere for name in one.packages}
    assert {"kubelet", "containerd", "dns"}.isdisjoint(everywhere)
    assert {"kube-apiserver", "kwok", "helm"} <= everywhere


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("go.etcd.io/etcd/server/v3", "server"),
        ("k8s.io/kubernetes/cmd/kubectl", "kubectl"),
        ("helm.sh/helm/v4/cmd/helm", "helm"),
    ],
)
def test_go_names_a_binary_after_the_last_element_that_is_no_version(
    package: str, name: str
) -> None:
    assert binaries.go_binary_name(package) == name


def test_a_binary_in_kubebuilder_assets_is_found(tmp_path: Path) -> None:
    etcd = executable(tmp_path / "etcd")
    (tmp_path / "kube-apiserver").write_text("not executable")
    (tmp_path / "kubectl").mkdir()
    executable(tmp_path / "helm")
    environment = {"KUBEBUILDER_ASSETS": str(tmp_path)}
    assert binaries.in_assets("etcd", environment) == etcd
    assert binaries.in_assets("kube-apiserver", environment) is None
    assert binaries.in_assets("kubectl", environment) is None
    assert binaries.in_assets("kube-scheduler", environment) is None
    assert binaries.in_assets("helm", environment) is None  # not one of kubebuilder's


@pytest.mark.parametrize("environment", [{}, {"KUBEBUILDER_ASSETS": ""}])
def test_without_kubebuilder_assets_nothing_is_found_there(environment: dict[str, str]) -> None:
    assert binaries.in_assets("etcd", environment) is None


def test_what_kubebuilder_assets_has_is_used_and_nothing_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = {name: executable(tmp_path / name) for name in ("etcd", "kubectl")}
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert binaries.ensure("etcd", "kubectl") == paths
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("version", "warned"), [("v1.34.1", True), ("v1.36.0", False)])
def test_an_api_server_of_another_minor_version_is_used_with_a_warning(
    version: str,
    warned: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = executable(tmp_path / "kube-apiserver")
    path.write_text(f"#!/bin/sh\necho Kubernetes {version}\n")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    assert binaries.ensure("kube-apiserver") == {"kube-apiserver": path}
    assert ("does not support that" in capsys.readouterr().err) is warned


def test_a_cached_binary_is_used_and_nothing_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    (module,) = (module for module in binaries.MODULES if "helm" in module.packages)
    directory = binaries.module_cache(module, binaries.cache_directory())
    directory.mkdir(parents=True)
    helm = executable(directory / "helm")
    assert binaries.ensure("helm") == {"helm": helm}


def test_the_cache_follows_the_users_cache_directory() -> None:
    environment = {"XDG_CACHE_HOME": "/somewhere"}
    assert binaries.cache_directory(environment) == Path("/somewhere/vllm-operator/tools")
    assert binaries.cache_directory({}) == Path.home() / ".cache" / "vllm-operator" / "tools"


def test_an_unknown_tool_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(BuildError, match=r"no tool is called kubeadm; there are etcd, "):
        binaries.ensure("kubeadm")
