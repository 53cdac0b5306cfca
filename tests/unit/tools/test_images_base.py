"""The images' base: what its hooks leave of this machine in it, and who may make it."""

import os
import platform
import subprocess
from pathlib import Path

import pytest

from images import base as module
from images.base import _HOOKS, base
from localcluster.errors import BuildError


def test_nothing_of_this_machine_stays_in_it(tmp_path: Path) -> None:
    root, programs = tmp_path / "root", tmp_path / "bin"
    apt = root / "etc" / "apt"
    for folder in (root / "usr" / "bin", apt / "sources.list.d", apt / "trusted.gpg.d", programs):
        folder.mkdir(parents=True)
    for file in ("etc/hostname", "etc/resolv.conf", "etc/os-release", "etc/apt/sources.list"):
        (root / file).touch()
    (apt / "sources.list.d" / "0000debian.sources").touch()
    # Where packages come from is still known when one is fetched.
    (programs / "apt-get").write_text(f'#!/bin/sh\nls "{apt}/sources.list.d" >> fetched\n')
    (programs / "apt-get").chmod(0o755)
    for hook in _HOOKS:  # as mmdebstrap runs them
        subprocess.run(
            ["sh", "-c", hook, "exec", str(root)],
            cwd=tmp_path,
            env={"PATH": f"{programs}:/usr/bin:/bin", "MMDEBSTRAP_APT_CONFIG": "/dev/null"},
            check=True,
        )
    assert (tmp_path / "fetched").read_text() == "0000debian.sources\n"
    left = {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}
    assert left == {"usr/bin/python", "etc/os-release"}
    assert list((apt / "sources.list.d").iterdir()) == []


def test_who_is_not_root_is_told_so_before_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(module, "_SOURCES", ())
    monkeypatch.setattr(
        platform,
        "freedesktop_os_release",
        lambda: {"ID": "debian", "VERSION_CODENAME": "bookworm"},
    )
    with pytest.raises(BuildError, match="takes root: use sudo, or start Docker"):
        base()
