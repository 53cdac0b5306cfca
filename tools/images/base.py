"""The images' base where there is no registry to fetch one from: Debian's own Python.

It is made by mmdebstrap from the packages of this machine's own release, once for each user, into
the cache, under a name that holds a hash of what is asked for. Packages that appeared since are in
it after its folder has been deleted.
"""

import hashlib
import os
import platform
import re
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localcluster import binaries, packages
from localcluster.building import alone, run_with_progress, say
from localcluster.errors import BuildError

PACKAGES = ("python3", "python3-venv", "ca-certificates")
BESIDE = ("libnuma1",)
"""Packages that lie unpacked by none beside the base, for images which need a file of theirs."""
_UNREAD = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*")
_HOOKS = (
    'ln -s python3 "$1/usr/bin/python"',
    'rm -f "$1/etc/hostname" "$1/etc/resolv.conf"',  # this machine's
    f'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get download {" ".join(BESIDE)}',
    # This machine's too, and not needed any more: it may name a mirror, with a password.
    'rm -rf "$1/etc/apt/sources.list" "$1/etc/apt/sources.list.d/"*',
)
_SOURCES = tuple(
    Path("/etc/apt", name)
    for name in (
        "sources.list.d/debian.sources",
        "sources.list.d/ubuntu.sources",
        "sources.list",
    )
)


@dataclass(frozen=True)
class Base:
    """The base that lies in a folder of the cache."""

    directory: Path

    @property
    def tar(self) -> Path:
        """Its root file system, not compressed."""
        return self.directory / "base.tar"

    @property
    def digest(self) -> str:
        """The tar's SHA-256."""
        return (self.directory / "base.sha256").read_text()

    @property
    def python(self) -> str:
        """Its Python's version: `3.11`."""
        return (self.directory / "python").read_text()

    def package(self, name: str) -> Path:
        """The file of a package out of BESIDE, of the same release as the base."""
        (file,) = self.directory.glob(f"{name}_*.deb")
        return file


def cache_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Where images are kept: `$XDG_CACHE_HOME`, or `~/.cache`, `/vllm-operator/images`."""
    return binaries.cache_directory(environment).with_name("images")


def need_root() -> None:
    """Raises BuildError for anybody else."""
    if os.geteuid() != 0:
        raise BuildError("making an image without Docker takes root: use sudo, or start Docker")


def base() -> Base:
    """The base, made now where it is missing. Raises BuildError."""
    release, sources = _release()
    texts = [path.read_bytes() for path in sources]
    options = [
        *("--mode=root", "--variant=minbase", f"--include={','.join(PACKAGES)}"),
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in _UNREAD),
        *(f"--customize-hook={hook}" for hook in _HOOKS),
        release,
    ]
    key = binaries.cache_key(texts, options, platform.system().lower(), platform.machine())
    cache = cache_directory()
    made = Base(cache / f"base-{key}")
    if not made.directory.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with alone(cache / f"{made.directory.name}.lock", "making the images' base"):
            if not made.directory.exists():
                need_root()
                packages.ensure({"mmdebstrap": "mmdebstrap"}, "images without Docker")
                _make(made, options, sources)
    return made


def _release() -> tuple[str, list[Path]]:
    """This machine's release, and the file that says where its packages come from, if it helps."""
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        system = {}
    if not {system.get("ID"), *system.get("ID_LIKE", "").split()} & {"debian", "ubuntu"}:
        raise BuildError(
            f"the images' base is made of Debian's or Ubuntu's packages by their own tools, and "
            f"this is {system.get('PRETTY_NAME', platform.system())}: start Docker, or use a "
            "machine with one of them"
        )
    for path in _SOURCES:
        # `mirror+file:` names one more file of this machine, which the new system would not find.
        if path.exists() and re.search(r"^(deb |URIs: *http)", path.read_text(), re.MULTILINE):
            return system["VERSION_CODENAME"], [path]
    return system["VERSION_CODENAME"], []


def _make(made: Base, options: list[str], sources: list[Path]) -> None:
    cache = made.directory.parent
    say(f"making the images' base, once, into {made.directory}: 180 MB, half a minute")
    with tempfile.TemporaryDirectory(dir=cache, prefix="making-") as staging:
        new = Base(Path(staging, "base"))
        new.directory.mkdir()
        command = ["mmdebstrap", *options, str(new.tar), *map(str, sources)]
        log = cache / f"{made.directory.name}.log"
        run_with_progress(command, new.directory, os.environ, log, "making the images' base")
        with new.tar.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        (new.directory / "base.sha256").write_text(digest)
        with tarfile.open(new.tar) as tar:
            python = tar.getmember("./usr/bin/python3").linkname
        (new.directory / "python").write_text(python.removeprefix("python"))
        new.directory.rename(made.directory)
