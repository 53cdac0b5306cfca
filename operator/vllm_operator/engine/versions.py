"""vLLM versions: how they are written, which one a server runs, and which are supported."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

from vllm_operator.errors import UnsupportedEngineVersion

DEFAULT_IMAGE: Final = "vllm/vllm-openai:v0.32.0"
IMAGE_FIELD: Final = "spec.engine.image"
VERSION_FIELD: Final = "spec.engine.version"

_TAG = re.compile(r"^v?(?P<version>[0-9]+\.[0-9]+\.[0-9]+(?:(?:a|b|rc)[0-9]+)?(?:\.post[0-9]+)?)")
_VERSION = re.compile(r"^v?([0-9]{1,4})\.([0-9]{1,4})(?:\.([0-9]{1,4}))?(.*)$")


@dataclass(frozen=True, slots=True)
class Version:
    """A vLLM version. Tables go by the release; what follows it is kept for display."""

    release: tuple[int, int, int]
    suffix: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``0.30.0``, ``v0.8.5.post1``, ``0.20``; raises ``ValueError`` on anything else."""
        match = _VERSION.match(text)
        if match is None:
            raise ValueError(f"{text!r} is no version")
        major, minor, patch = int(match[1]), int(match[2]), int(match[3] or 0)
        return cls(release=(major, minor, patch), suffix=match[4])

    def __str__(self) -> str:
        return ".".join(map(str, self.release)) + self.suffix


OLDEST: Final = Version((0, 8, 0))
"""Oldest version that is planned: the first with the V1 engine on by default."""
NEWEST_KNOWN: Final = Version((0, 33, 0))
"""Newest version that the data files were checked against."""


@lru_cache(maxsize=256)
def version_in_tag(image: str) -> str | None:
    """The version that an image's tag says, None for ``latest``, digests and private tags."""
    name = image.partition("@")[0].rpartition("/")[2]
    match = _TAG.match(name.partition(":")[2])
    return match["version"] if match else None


def engine_image(image: str | None, version: str | None, default_image: str) -> str:
    """The image to run: as given, else the default one, at the tag of a given version.

    A version without an image would otherwise plan for one vLLM and run another.
    """
    if image is not None:
        return image
    default_version = version_in_tag(default_image)
    if version is None or default_version is None or version == default_version:
        return default_image
    tag = f":v{default_version}"
    if default_image.endswith(tag):
        return f"{default_image.removesuffix(tag)}:v{version}"
    raise UnsupportedEngineVersion(
        VERSION_FIELD,
        f"is {version}, and the operator's default image is {default_image}; "
        f"set {IMAGE_FIELD} to an image that holds {version}, or remove the version",
    )


def engine_version(image: str, version: str | None) -> Version:
    """The vLLM version inside ``image``: ``version`` where it is given, else what the tag says.

    Raises ``UnsupportedEngineVersion`` where neither says it, and for versions before 0.8.0.
    """
    text = version or version_in_tag(image)
    if text is None:
        raise UnsupportedEngineVersion(
            VERSION_FIELD,
            f"the tag of image {image} does not say which vLLM it holds; "
            f'set {VERSION_FIELD}, for example "{NEWEST_KNOWN}"',
        )
    field = VERSION_FIELD if version else IMAGE_FIELD
    try:
        found = Version.parse(text)
    except ValueError as problem:
        raise UnsupportedEngineVersion(
            field, f'{problem}; write it as "{NEWEST_KNOWN}"'
        ) from problem
    if found.release < OLDEST.release:
        raise UnsupportedEngineVersion(
            field, f"vLLM {found} is older than {OLDEST}, the oldest that can be planned"
        )
    return found


def version_note(version: Version) -> str | None:
    """What to say beside figures of a version that is newer than the data files."""
    if version.release <= NEWEST_KNOWN.release:
        return None
    return f"vLLM {version} is newer than {NEWEST_KNOWN}, whose tables are taken"


def version_differs(planned: str, engine: str | None) -> bool:
    """Whether an engine says that it is another release than planned: ``0.30.0+cu129`` is not."""
    return engine is not None and Version.parse(planned).release != Version.parse(engine).release
