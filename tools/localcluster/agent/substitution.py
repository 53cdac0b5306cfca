"""Mount paths and addresses in a pod's texts become this machine's. Pure."""

import re
from collections.abc import Mapping

_ADDRESS = re.compile(r"(?<![\w.\-])(?:127\.0\.0\.1|localhost|0\.0\.0\.0)(?![\w.\-])")
_REFERENCE = re.compile(r"\$(\$|\(([A-Za-z_.\-][\w.\-]*)\))")


class Substitution:
    """For one container: `mounts` maps mount paths to directories, `address` is the pod's.

    A path counts where it begins: `--dir=/models/x` holds /models, `http://host/models` does not.
    """

    def __init__(self, mounts: Mapping[str, str], address: str) -> None:
        self._mounts = {path.rstrip("/"): directory for path, directory in mounts.items()}
        self._address = address
        longest_first = sorted(self._mounts, key=len, reverse=True)
        choices = "|".join(re.escape(path) for path in longest_first)
        self._path = re.compile(rf"(?<![\w.\-/)}}\]])(?:{choices})(?![\w.\-])") if choices else None

    def __call__(self, text: str) -> str:
        """The text as it holds on this machine."""
        if self._path is not None:
            text = self._path.sub(lambda match: self._mounts[match.group()], text)
        return _ADDRESS.sub(self._address, text)


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`$(NAME)` as Kubernetes expands it: `$$` is a dollar, an unknown name stays as it stands."""

    def value(match: re.Match[str]) -> str:
        name = match.group(2)
        return "$" if name is None else variables.get(name, match.group())

    return _REFERENCE.sub(value, text)
