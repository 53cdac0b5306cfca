"""The operator's image as an archive: by Docker where an engine runs, else by buildah.

Without Docker the Dockerfile is built as it stands, on the base of Debian's packages, and as root:
its RUN steps run in a chroot on this machine's network.
"""

import configparser
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from images.base import Base, base, cache_directory, need_root
from localcluster import packages
from localcluster.building import alone, run_with_progress, say
from localcluster.image_archive import Blob, Image, archive

ROOT = Path(__file__).resolve().parents[2]
ARCHIVE = ROOT / "build" / "images" / "vllm-operator.tar"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_PIP_FILES = ("/etc/xdg/pip/pip.conf", "/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf")
# How an index is reached. What else a person sets is not the image's: PIP_LOG, PIP_TARGET, …
_PIP_SETTINGS = {
    *("index-url", "extra-index-url", "no-index", "find-links", "trusted-host"),
    *("cert", "client-cert", "proxy", "timeout", "default-timeout", "retries"),
}

# Of some ten builds, 120 MB each: what files of yesterday have left is then thrown away.
_MANY_LAYERS = 150


def version(root: Path = ROOT) -> str:
    """The operator's version."""
    text = (root / "operator" / "vllm_operator" / "__init__.py").read_text()
    (found,) = re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    return str(found)


def operator_archive(name: str = "", path: Path = ARCHIVE, root: Path = ROOT) -> Path:
    """The image in a docker-archive, built now where its inputs have changed. Raises BuildError.

    `root` is the checkout that it is made of. Docker is asked each time: it knows what has changed,
    of its base too.
    """
    name = name or f"localhost/vllm-operator:{version()}"
    below = None if docker_runs() else base()
    cache = cache_directory()
    for folder in (cache, path.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with (
        alone(cache / "build.lock", "building an image"),
        tempfile.TemporaryDirectory(dir=cache, prefix="building-") as staging,
    ):
        key = _key(name, below, root) if below else ""
        written = path.with_suffix(".key")
        if key and path.exists() and written.exists() and written.read_text() == key:
            say(f"{path} holds {name} of these files already")
            return path
        made = Path(staging, "image.tar")
        if below is None:
            build = ["docker", "build", "--pull", "--tag", name, str(root)]
            _run(build, "building the image with Docker")
            _run(["docker", "save", "--output", str(made), name], "saving the image")
        else:
            _by_buildah(name, below, made, root)
        # Whole or not at all, also where the cache lies on another file system.
        partial = path.with_name(f"{path.name}.partial")
        shutil.move(made, partial)
        written.unlink(missing_ok=True)
        partial.replace(path)
        if key:
            written.write_text(key)
    say(f"{path} holds {name}: {path.stat().st_size / 1e6:.0f} MB")
    return path


def docker_runs() -> bool:
    """Whether there is a Docker engine that answers."""
    if shutil.which("docker") is None:
        return False
    answer = subprocess.run(["docker", "info"], capture_output=True, timeout=60, check=False)
    return answer.returncode == 0


def _key(name: str, below: Base, root: Path) -> str:
    """A hash of all that decides the image: what .dockerignore lets through, and the base."""
    ignore = (root / ".dockerignore").read_text().splitlines()
    digest = hashlib.sha256(f"{name} {below.digest}".encode())
    for given in ("Dockerfile", *(line[1:] for line in ignore if line.startswith("!"))):
        top = root / given
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and path.suffix != ".pyc":
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                digest.update(f"{path.relative_to(root)} {content}\n".encode())
    return digest.hexdigest()


def _by_buildah(name: str, below: Base, made: Path, root: Path) -> None:
    need_root()
    packages.ensure({"buildah": "buildah"}, "images without Docker")
    store = cache_directory() / "buildah"
    buildah = [
        *("buildah", "--root", str(store / "root"), "--runroot", str(store / "run")),
        *("--storage-driver", "overlay"),
    ]
    _ask(*buildah, "rm", "--all")  # what a build that was killed has left
    if len(_ask(*buildah, "images", "--all", "--quiet").split()) > _MANY_LAYERS:
        _ask(*buildah, "rmi", "--all", "--force")
    python = f"localhost/vllm-operator-base:{below.digest[:16]}"
    if not _ask(*buildah, "images", "--quiet", python):
        image = Image(python, [Blob(below.tar, below.digest)], ["python3"])
        archived = archive(made.with_name("base.tar"), image)
        _run([*buildah, "pull", f"oci-archive:{archived}:{python}"], "handing the base to buildah")
        archived.unlink()
    build = [
        *("bud", "--isolation", "chroot", "--network", "host", "--pull-never", "--layers"),
        *("--build-arg", f"PYTHON_IMAGE={python}"),
        # No two times in what is made, so that the same files make the same image.
        *("--timestamp", "0"),
        *_mounts(made.parent),
        *("--tag", name, str(root)),
    ]
    _run([*buildah, *build], "building the image with buildah")
    _run([*buildah, "push", name, f"docker-archive:{made}:{name}"], "saving the image")


def _mounts(folder: Path, environment: Mapping[str, str] = os.environ) -> list[str]:
    """What pip needs of this machine to reach its index, as options of `buildah bud`.

    Its settings from their files and from PIP_…, in one file, and whatever files these name.
    """
    own = environment.get("PIP_CONFIG_FILE", "")
    # As pip has it, the null device stands for no file at all.
    files = [] if own == os.devnull else [os.path.expanduser(path) for path in (*_PIP_FILES, own)]
    read = configparser.RawConfigParser()
    read.read(files)
    variables = {
        name.removeprefix("PIP_"): value
        for name, value in environment.items()
        if name.startswith("PIP_") and value
    }
    given = [(name, dict(read[name])) for name in read.sections()]
    settings = configparser.RawConfigParser()
    for section, found in [*given, ("global", variables)]:
        known = {key.lower().replace("_", "-"): value for key, value in found.items()}
        settings.read_dict({section: {key: known[key] for key in known.keys() & _PIP_SETTINGS}})
    file = folder / "pip.conf"
    with file.open("w") as output:
        settings.write(output)
    values = {
        word
        for section in settings.values()
        for value in section.values()
        for word in value.split()
    }
    named = {Path(value) for value in values if value.startswith("/")} | {_CERTIFICATES}
    pairs = [
        (file, Path("/etc/pip.conf")),
        *((path, path) for path in sorted(named) if path.exists()),
    ]
    return [f"--volume={here}:{there}:ro" for here, there in pairs]


def _ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _run(command: list[str], label: str) -> None:
    log = cache_directory() / "build.log"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("BUILDAH")
    }
    run_with_progress(command, ROOT, environment, log, label)
