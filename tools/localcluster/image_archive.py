"""OCI image archives, as `ctr images import` takes them, from tars and files.

Layers are not compressed: nobody sends these archives anywhere. The same input gives the same
bytes.
"""

import hashlib
import io
import json
import os
import platform
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_MEDIA = "application/vnd.oci.image"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Blob:
    """Content by its SHA-256: a file, or bytes."""

    content: Path | bytes
    digest: str

    @classmethod
    def of(cls, content: bytes) -> "Blob":
        """These bytes."""
        return cls(content, hashlib.sha256(content).hexdigest())

    @property
    def size(self) -> int:
        """In bytes."""
        return self.content.stat().st_size if isinstance(self.content, Path) else len(self.content)

    def descriptor(self, kind: str, **more: Any) -> dict[str, Any]:
        """What refers to it as a `kind` of part of an image."""
        media = f"{_MEDIA}.{kind}"
        return {"mediaType": media, "digest": f"sha256:{self.digest}", "size": self.size, **more}


@dataclass(frozen=True)
class Image:
    """An image: its full name with the tag, its layers from below, and how it starts."""

    name: str
    layers: Sequence[Blob]
    entrypoint: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    def config(self) -> Blob:
        """Its configuration."""
        machine = platform.machine()
        variables = {"PATH": PATH, **self.environment}
        return _json(
            {
                "architecture": _ARCHITECTURES.get(machine, machine),
                "os": "linux",
                "config": {
                    "Env": [f"{name}={value}" for name, value in variables.items()],
                    "Entrypoint": list(self.entrypoint),
                },
                "rootfs": {
                    "type": "layers",
                    "diff_ids": [f"sha256:{layer.digest}" for layer in self.layers],
                },
                # buildah refuses a base whose history is shorter than its layers.
                "history": [{"created_by": "tools/images"} for _ in self.layers],
            }
        )

    def manifest(self) -> Blob:
        """Its manifest."""
        return _json(
            {
                "schemaVersion": 2,
                "mediaType": f"{_MEDIA}.manifest.v1+json",
                "config": self.config().descriptor("config.v1+json"),
                "layers": [layer.descriptor("layer.v1.tar") for layer in self.layers],
            }
        )


def layer(files: Mapping[str, Path | str]) -> Blob:
    """A layer of files by their absolute path: a Path's copy, or an executable with this text."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, source in sorted(files.items()):
            script = isinstance(source, str)
            content = source.encode() if isinstance(source, str) else source.read_bytes()
            executable = script or os.access(source, os.X_OK)
            _add(tar, name.lstrip("/"), content, mode=0o755 if executable else 0o644)
    return Blob.of(stream.getvalue())


def archive(path: Path, *images: Image) -> Path:
    """Writes the images into one archive, in which each layer lies once."""
    manifests = []
    blobs: dict[str, Blob] = {}
    for image in images:
        for blob in (*image.layers, image.config(), image.manifest()):
            blobs[blob.digest] = blob
        names = {
            "io.containerd.image.name": image.name,
            "org.opencontainers.image.ref.name": image.name,
        }
        manifests.append(image.manifest().descriptor("manifest.v1+json", annotations=names))
    index = {"schemaVersion": 2, "manifests": manifests}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    with tarfile.open(partial, "w") as tar:
        _add(tar, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
        _add(tar, "index.json", json.dumps(index).encode())
        for digest, blob in sorted(blobs.items()):
            _add(tar, f"blobs/sha256/{digest}", blob.content)
    partial.replace(path)
    return path


def _json(content: Any) -> Blob:
    return Blob.of(json.dumps(content).encode())


def _add(tar: tarfile.TarFile, name: str, content: Path | bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode = mode
    if isinstance(content, Path):
        entry.size = content.stat().st_size
        with content.open("rb") as file:
            tar.addfile(entry, file)
    else:
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
