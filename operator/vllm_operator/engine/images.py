"""What the images that are known are built for: ``images.csv``. Of any other nothing is said."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from .tables import rows
from .versions import Version

DOCKER_HUB: Final = re.compile(r"^(?:index\.)?docker\.io/")
COMMON: Final = "vllm/vllm-openai"
OTHER_HARDWARE: Final = re.compile(r"rocm|cpu|xpu|hpu|tpu|neuron")
"""Words of a tag of the ``COMMON`` repository that would tell of another build than CUDA's."""
RELEASED: Final = re.compile(r"(?:\.(?:post)?[0-9]+)?")
"""What follows a release's three numbers: nothing, or a further one (0.8.5.post1, 0.10.1.1)."""


def repository(image: str) -> str:
    """An image's name without Docker Hub's own, tag and digest."""
    folder, slash, name = image.partition("@")[0].rpartition("/")
    return DOCKER_HUB.sub("", f"{folder}{slash}{name.partition(':')[0]}")


@lru_cache(maxsize=256)
def built_for(image: str) -> str | None:
    """The hardware that an image is built for (``AMD GPUs``), None where nobody published it."""
    name = repository(image)
    row = _repositories().get(name)
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    if row is None or (name == COMMON and OTHER_HARDWARE.search(tag)):
        return None
    return row["hardware"]


def official_image(hardware: str, version: Version) -> str | None:
    """The vLLM project's image of a version for such hardware, None where it published none."""
    for row in rows("images.csv"):
        if row["hardware"] == hardware and row["since"]:
            known = version.release >= Version.parse(row["since"]).release
            return f"{row['repository']}:v{_released(version)}" if known else None
    return None


def _released(version: Version) -> Version:
    """The release of a candidate or a development build, which has no image of that name."""
    return version if RELEASED.fullmatch(version.suffix) else Version(version.release)


@lru_cache(maxsize=1)
def _repositories() -> Mapping[str, Mapping[str, str]]:
    return {row["repository"]: row for row in rows("images.csv")}
