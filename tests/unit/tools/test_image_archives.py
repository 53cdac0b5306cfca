"""Image archives: what an importer reads of them, and that nothing lies in them twice."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from images.base import Base
from images.testing import real_engine
from localcluster.errors import BuildError
from localcluster.image_archive import Blob, Image, archive, layer
from realengine.environments import SERVING, Environment

BELOW = Blob.of(b"stands for a root file system")


def contents(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]


def part(files: dict[str, bytes], descriptor: dict[str, Any]) -> bytes:
    algorithm, digest = descriptor["digest"].split(":")
    content = files[f"blobs/{algorithm}/{digest}"]
    assert hashlib.sha256(content).hexdigest() == digest
    assert len(content) == descriptor["size"]
    return content


def test_an_importer_finds_each_image_by_its_name_with_its_layers_and_its_start(
    tmp_path: Path,
) -> None:
    top = layer({"/usr/local/bin/vllm": "#!/bin/sh\n"})
    image = Image("docker.io/a/b:v1", [BELOW, top], ["vllm", "serve"], {"A": "1"})
    files = contents(archive(tmp_path / "a.tar", image))
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (found,) = json.loads(files["index.json"])["manifests"]
    assert found["annotations"]["io.containerd.image.name"] == "docker.io/a/b:v1"
    manifest = json.loads(part(files, found))
    config = json.loads(part(files, manifest["config"]))
    layers = [part(files, descriptor) for descriptor in manifest["layers"]]
    assert layers == [BELOW.content, top.content]
    assert config["config"]["Entrypoint"] == ["vllm", "serve"]
    assert "A=1" in config["config"]["Env"]
    # Layers are not compressed, so that their digests are those of their content.
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]


def test_images_that_share_a_layer_hold_it_once(tmp_path: Path) -> None:
    images = [
        Image(f"docker.io/a/b:v{number}", [BELOW], ["vllm"], {"VERSION": str(number)})
        for number in range(3)
    ]
    files = contents(archive(tmp_path / "a.tar", *images))
    assert list(files.values()).count(b"stands for a root file system") == 1
    assert len({found["digest"] for found in json.loads(files["index.json"])["manifests"]}) == 3


def test_the_same_files_make_the_same_archive(tmp_path: Path) -> None:
    source = tmp_path / "pause"
    source.write_bytes(b"\x7fELF")
    source.chmod(0o755)
    first = archive(
        tmp_path / "1.tar", Image("a:1", [layer({"/pause": source})], ["/pause"])
    ).read_bytes()
    source.touch()
    assert (
        archive(
            tmp_path / "2.tar", Image("a:1", [layer({"/pause": source})], ["/pause"])
        ).read_bytes()
        == first
    )


def test_scripts_and_what_is_executable_here_is_executable_in_the_layer(tmp_path: Path) -> None:
    program, table = tmp_path / "program", tmp_path / "table.csv"
    for path in (program, table):
        path.write_text("x")
    program.chmod(0o755)
    blob = layer({"/bin/script": "#!/bin/sh\n", "/bin/program": program, "/table.csv": table})
    assert isinstance(blob.content, bytes)
    with tarfile.open(fileobj=io.BytesIO(blob.content)) as tar:
        modes = {entry.name: entry.mode for entry in tar}
    assert modes == {"bin/program": 0o755, "bin/script": 0o755, "table.csv": 0o644}


def test_an_engine_of_another_python_than_the_bases_is_refused(tmp_path: Path) -> None:
    environment = Environment(SERVING, tmp_path)
    (tmp_path / "lib" / "python3.12" / "site-packages").mkdir(parents=True)
    (tmp_path / "python").write_text("3.11")
    with pytest.raises(BuildError, match=r"python3\.12.*base has python3\.11: set PYTHON"):
        real_engine(environment, on=Base(tmp_path))
