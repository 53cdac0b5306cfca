"""A release's files, of a copy of what it is made of; the image is not built."""

import hashlib
import re
import shutil
import tarfile
from pathlib import Path

import pytest
import yaml

from chart.support import ROOT
from images import release
from localcluster.errors import BuildError

CHANGELOG = """\
# Changelog

## [Unreleased]

## [1.2.3] - 2027-01-31

- An entry.

## [1.2.2] - 2026-12-24
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a checkout whose version is 1.2.3."""
    made = tmp_path / "checkout"
    for name in ("operator/vllm_operator/__init__.py", "crds/vllmservers.vllm-operator.io.yaml"):
        (made / name).parent.mkdir(parents=True)
        shutil.copy(ROOT / name, made / name)
    shutil.copytree(ROOT / release.CHART, made / release.CHART)
    (made / "CHANGELOG.md").write_text(CHANGELOG)
    edit(made / "operator/vllm_operator/__init__.py", r'(?<=__version__ = ").*(?=")')
    edit(made / release.CHART / "Chart.yaml", r"(?<=ersion: )\d\S+")
    image = tmp_path / "image.tar"
    image.write_bytes(b"image")
    monkeypatch.setattr(release, "operator_archive", lambda: image)
    return made


def edit(path: Path, pattern: str, new: str = "1.2.3") -> None:
    text, count = re.subn(pattern, new, path.read_text())
    assert count
    path.write_text(text)


def test_the_folder_holds_image_chart_definition_and_their_sums(root: Path, tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    dist.mkdir()
    (dist / "vllm-operator-1.2.2.tgz").touch()
    files = {path.name: path.read_bytes() for path in release.release(dist, root=root)}
    assert {path.name for path in dist.iterdir()} == files.keys()
    (image,) = [name for name in files if "image" in name]
    assert files[image] == b"image"
    assert files.keys() - {image} == {
        "SHA256SUMS",
        "vllm-operator-1.2.3.tgz",
        "vllmservers.vllm-operator.io.yaml",
    }
    crd = "vllmservers.vllm-operator.io.yaml"
    assert files[crd] == (ROOT / "crds" / crd).read_bytes()
    sums = dict(reversed(line.split()) for line in files["SHA256SUMS"].decode().splitlines())
    assert sums == {
        name: hashlib.sha256(content).hexdigest()
        for name, content in files.items()
        if name != "SHA256SUMS"
    }
    packed = yaml.safe_load(unpacked(dist, "Chart.yaml"))
    assert (packed["version"], packed["appVersion"]) == ("1.2.3", "1.2.3")


def unpacked(dist: Path, name: str) -> str:
    with tarfile.open(dist / "vllm-operator-1.2.3.tgz") as chart:
        file = chart.extractfile(f"vllm-operator/{name}")
        assert file is not None
        return file.read().decode()


def test_the_chart_pulls_from_where_the_release_is_published(root: Path, tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    default = yaml.safe_load((root / release.CHART / "values.yaml").read_text())["image"]
    release.release(dist, root=root)
    assert yaml.safe_load(unpacked(dist, "values.yaml"))["image"] == default
    release.release(dist, root=root, repository="ghcr.io/somebody/vllm-operator")
    published = yaml.safe_load(unpacked(dist, "values.yaml"))["image"]
    assert published == default | {"repository": "ghcr.io/somebody/vllm-operator"}
    assert '`"ghcr.io/somebody/vllm-operator"`' in unpacked(dist, "README.md")
    assert default["repository"] not in unpacked(dist, "README.md")
    assert "somebody" not in (root / release.CHART / "values.yaml").read_text()


def test_an_image_that_was_tested_before_is_published_as_it_is(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested = tmp_path / "tested.tar"
    tested.write_bytes(b"tested")
    monkeypatch.setattr(release, "operator_archive", lambda: pytest.fail("it was built again"))
    files = release.release(tmp_path / "dist", root=root, image=tested)
    (image,) = [path for path in files if "image" in path.name]
    assert image.read_bytes() == b"tested"


def test_another_checkout_makes_the_same_chart(root: Path, tmp_path: Path) -> None:
    charts = []
    for name in ("first", "second"):
        release.release(tmp_path / name, root=root)
        charts.append((tmp_path / name / "vllm-operator-1.2.3.tgz").read_bytes())
        for path in root.rglob("*"):
            path.touch()
    assert charts[0] == charts[1]


@pytest.mark.parametrize(
    ("file", "pattern", "place"),
    [
        ("operator/vllm_operator/__init__.py", r"(?<=\")[\d.]+(?=\")", "vllm_operator/__init__.py"),
        (
            "charts/vllm-operator/Chart.yaml",
            r"(?<=^version: ).*",
            "version in charts/vllm-operator/Chart.yaml",
        ),
        (
            "charts/vllm-operator/Chart.yaml",
            r"(?<=appVersion: ).*",
            "appVersion in charts/vllm-operator/Chart.yaml",
        ),
        ("CHANGELOG.md", r"1\.2\.3(?=\])", "newest heading of CHANGELOG.md"),
    ],
)
def test_places_that_name_different_versions_are_refused_and_named(
    root: Path, tmp_path: Path, file: str, pattern: str, place: str
) -> None:
    edit(root / file, f"(?m){pattern}", "1.3.0")
    with pytest.raises(BuildError) as refused:
        release.release(tmp_path / "dist", root=root)
    assert f"{place}: 1.3.0" in str(refused.value)
    assert str(refused.value).count("1.2.3") == 3
    assert not (tmp_path / "dist").exists()


def test_another_version_than_the_tags_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"what is asked for: 1\.2\.4"):
        release.release(tmp_path / "dist", "1.2.4", root=root)


def test_changes_that_no_version_has_yet_are_refused(root: Path, tmp_path: Path) -> None:
    edit(root / "CHANGELOG.md", r"\[Unreleased\]\n", "[Unreleased]\n\n- Forgotten.\n")
    with pytest.raises(BuildError, match=r"CHANGELOG\.md: \[Unreleased\]"):
        release.release(tmp_path / "dist", root=root)


def test_the_operator_and_its_chart_have_one_version() -> None:
    named = release.versions()
    assert len(set(list(named.values())[:3])) == 1
