"""Which program of this machine stands for which image's. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Image:
    """Images that match `pattern` (as shells match: `vllm/vllm-openai:v0.3?.*`).

    `programs` maps a name in the image (`vllm`, `python3`) to the command that runs instead; names
    that are not in it are looked up on this machine's PATH. `environment` is what the image sets.
    `entrypoint` runs where the pod gives no command.
    """

    pattern: str
    programs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    entrypoint: Sequence[str] = ()
    pull_seconds: float = 0.0


def find(images: Sequence[Image], reference: str) -> Image | None:
    """The first image that matches; None means that it cannot be pulled."""
    return next((image for image in images if fnmatchcase(reference, image.pattern)), None)


def full_reference(reference: str) -> str:
    """As containerd spells it in messages: with the registry, `library/` and the tag.

    >>> full_reference("busybox")
    'docker.io/library/busybox:latest'
    """
    first, slash, _ = reference.partition("/")
    if not slash:
        reference = f"docker.io/library/{reference}"
    elif not ("." in first or ":" in first or first == "localhost"):
        reference = f"docker.io/{reference}"
    last = reference.rpartition("/")[2]
    return reference if "@" in reference or ":" in last else f"{reference}:latest"


def not_found(reference: str) -> str:
    """What a kubelet says, through containerd, of an image that its registry does not have."""
    full = full_reference(reference)
    return (
        f'rpc error: code = NotFound desc = failed to pull and unpack image "{full}": '
        f'failed to resolve reference "{full}": {full}: not found'
    )
