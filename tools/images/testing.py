"""The images of the engines that run in tests on a real node.

archive(path, *scripted_engine("docker.io/scripted/vllm:v0.30.0"), real_engine(ensure()))
"""

import subprocess
from pathlib import Path

from images.base import Base, base
from localcluster.errors import BuildError
from localcluster.image_archive import Blob, Image, layer
from realengine.environments import SITE, Environment

_ROOT = Path(__file__).resolve().parents[2]
ENGINE_AT = "/opt/engine"
"""Where a node mounts the real engine's environment, which is too large to be copied about."""

_SCRIPTED = """\
#!/bin/sh
PYTHONPATH=/opt/tools exec python3 -S -m scriptedengine "$@"
"""
_REAL = """\
#!/usr/bin/python3
import sys
from vllm.entrypoints.cli.main import main
if __name__ == "__main__":  # its processes import this file
    sys.exit(main())
"""


def scripted_engine(*names: str) -> list[Image]:
    """An image of the scripted engine for each name; the tag says which vLLM it plays."""
    engine = "operator/vllm_operator/engine"
    files = [
        *(_ROOT / "tools" / "scriptedengine").rglob("*"),
        *(_ROOT / engine).glob("*.csv"),
    ]
    content: dict[str, Path | str] = {
        f"/opt/{path.relative_to(_ROOT)}": path
        for path in files
        if path.is_file() and path.suffix != ".pyc"
    }
    layers = [_layer(base()), layer(content | {"/usr/local/bin/vllm": _SCRIPTED})]
    return [Image(name, layers, ["vllm", "serve"], {"LOCALCLUSTER_IMAGE": name}) for name in names]


def real_engine(environment: Environment, name: str = "", on: Base | None = None) -> Image:
    """The image of the real engine that the environment holds; a node mounts it at ENGINE_AT.

    Raises BuildError where the base's Python is another one than the environment's.
    """
    below = on or base()
    site = f"lib/python{below.python}/site-packages"
    if not (environment.directory / site).is_dir():
        (theirs,) = (path.name for path in (environment.directory / "lib").glob("python3.*"))
        raise BuildError(
            f"the real engine was installed for {theirs}, and the images' base has "
            f"python{below.python}: set PYTHON to a Python {below.python}, and `make clean engine`"
        )
    variables = {
        key: value
        for key, value in environment.variables().items()
        if key.startswith(("HF_", "VLLM_", "DO_NOT_TRACK")) and key != "VLLM_CACHE_ROOT"
    }
    variables["PYTHONPATH"] = f"/opt/site:{ENGINE_AT}/{site}"
    # A CPU's memory is not planned: 1 GiB is its KV cache, whatever share of the machine's memory
    # --gpu-memory-utilization would be.
    variables["VLLM_CPU_KVCACHE_SPACE"] = "1"
    files: dict[str, Path | str] = {
        f"/opt/site/{path.name}": path for path in sorted(SITE.glob("*.py"))
    }
    numa = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", str(below.package("libnuma1"))],
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    layers = [_layer(below), Blob.of(numa), layer(files | {"/usr/local/bin/vllm": _REAL})]
    name = name or f"docker.io/vllm/vllm-openai:v{environment.lock.version}"
    return Image(name, layers, ["vllm", "serve"], variables)


def _layer(below: Base) -> Blob:
    return Blob(below.tar, below.digest)
