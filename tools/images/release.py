"""A release's files: the image, the packaged chart, the definition, and their checksums."""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import yaml

from images.operator import ROOT, operator_archive, version
from localcluster import binaries
from localcluster.building import say
from localcluster.errors import BuildError

CHART = Path("charts", "vllm-operator")
DEFINITION = Path("crds", "vllmservers.vllm-operator.io.yaml")
SUMS = "SHA256SUMS"


def versions(root: Path = ROOT) -> dict[str, str]:
    """The version that each place names."""
    chart = (root / CHART / "Chart.yaml").read_text()
    keys = ("version", "appVersion")
    found = {key: re.search(rf"^{key}: *(\S+)$", chart, re.MULTILINE) for key in keys}
    return {
        "operator/vllm_operator/__init__.py": version(root),
        **{
            f"{key} in {CHART}/Chart.yaml": match[1] if match else "nothing"
            for key, match in found.items()
        },
        "the newest heading of CHANGELOG.md": _newest(root)[0],
    }


def release(
    dist: Path,
    asked: str = "",
    root: Path = ROOT,
    repository: str = "",
    image: Path | None = None,
) -> list[Path]:
    """Makes the files, in place of what the folder held. Raises BuildError.

    `asked` is the version that is expected, a tag's for one. `repository` is where the image will
    be pushed: the chart's default. `image` is an archive that was built, and tested, before.
    """
    named = versions(root) | ({"what is asked for": asked} if asked else {})
    if len(set(named.values())) != 1:
        told = "; ".join(f"{place}: {value}" for place, value in named.items())
        raise BuildError(f"a release has one version, and these differ: {told}")
    number, day = _newest(root)
    image = image or operator_archive()
    dist.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=dist.parent, prefix=".dist-") as folder:
        staging = Path(folder, "dist")
        staging.mkdir()
        shutil.copyfile(image, staging / f"vllm-operator-{number}-image-{platform.machine()}.tar")
        shutil.copyfile(root / DEFINITION, staging / DEFINITION.name)
        _package(root / CHART, repository, day, staging)
        lines = [f"{_digest(path)}  {path.name}\n" for path in sorted(staging.iterdir())]
        (staging / SUMS).write_text("".join(lines))
        shutil.rmtree(dist, ignore_errors=True)
        staging.rename(dist)
    files = sorted(dist.iterdir())
    say(f"{dist} holds release {number}: {', '.join(path.name for path in files)}")
    return files


def _newest(root: Path) -> tuple[str, str]:
    """The version of the changelog's newest entries, and the day; no version where they have none.

    An empty list of what is unreleased may stand above.
    """
    parts = re.split(r"^## ", (root / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1:]
    for part in parts:
        heading, _, entries = part.partition("\n")
        match = re.fullmatch(r"\[(\d+\.\d+\.\d+\S*)\] - (\d{4}-\d{2}-\d{2})", heading.strip())
        if match:
            return match[1], match[2]
        if entries.strip():
            return heading.strip(), ""
    return "nothing", ""


def _package(chart: Path, repository: str, day: str, into: Path) -> None:
    """helm keeps the files' times: the day of the release, so that others make the same bytes."""
    time = datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, chart.name)
        shutil.copytree(chart, copy)
        if repository:
            default = yaml.safe_load((copy / "values.yaml").read_text())["image"]["repository"]
            for name in ("values.yaml", "README.md"):
                text = (copy / name).read_text()
                (copy / name).write_text(text.replace(default, repository))
        for path in copy.rglob("*"):
            os.utime(path, (time, time))
        homes = {f"HELM_{name}_HOME": folder for name in ("CACHE", "CONFIG", "DATA")}
        answer = subprocess.run(
            [
                str(binaries.ensure("helm")["helm"]),
                "package",
                str(copy),
                "--destination",
                str(into),
            ],
            env={**os.environ, **homes},
            capture_output=True,
            text=True,
            check=False,
        )
    if answer.returncode != 0:
        raise BuildError(f"helm package failed: {answer.stderr.strip()}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
