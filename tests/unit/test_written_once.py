"""Facts that stand once in the package."""

from __future__ import annotations

import re
from pathlib import Path

import vllm_operator

PACKAGE = Path(vllm_operator.__file__).parent
SOURCES = sorted(path for end in ("py", "j2") for path in PACKAGE.rglob(f"*.{end}"))


def places(pattern: str) -> list[str]:
    found = re.compile(pattern)
    return [
        f"{path.relative_to(PACKAGE)}"
        for path in SOURCES
        for line in path.read_text().splitlines()
        if found.search(line)
    ]


def test_the_port_of_a_server_stands_once() -> None:
    assert places(r"(?i)port\b.*8000|:8000") == ["api/base.py"]


def test_how_long_a_pod_drains_by_default_stands_once() -> None:
    assert places(r"DRAIN_SECONDS\b.* = ") == ["api/v1alpha1.py"]


def test_the_size_of_a_gibibyte_stands_once() -> None:
    assert places(r"\b(1024|2) ?\*\* ?(3|30) *$") == ["api/quantity.py"]


def test_one_module_reads_the_package_s_data_files() -> None:
    assert places(r"importlib\.resources|importlib import resources") == ["datafiles.py"]
