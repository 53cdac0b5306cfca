"""Variables in texts, which Kubernetes replaces when a pod starts and no other target does."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

from vllm_operator.errors import IllegalPin

_PLACE: Final = re.compile(r"\$(?:\$|\((?P<name>[^)]*)\))")


def expanded(text: str, values: Mapping[str, str], secret: Collection[str], field: str) -> str:
    """``text`` with each ``$(NAME)`` replaced by its value; ``$$`` is one ``$``, and a name that
    nothing has stays (k8s.io/kubernetes, third_party/forked/golang/expansion).

    Raises IllegalPin, at ``field``, for a name in ``secret``: its value is nowhere in a manifest.
    """

    def value(found: re.Match[str]) -> str:
        name = found["name"]
        if name is None:
            return "$"
        if name in secret:
            raise IllegalPin(
                field,
                f"has $({name}), whose value is in no manifest; give the text that it stands in by "
                "a Secret of its own, or render --target kubernetes",
            )
        return values.get(name, found[0])

    return _PLACE.sub(value, text)
