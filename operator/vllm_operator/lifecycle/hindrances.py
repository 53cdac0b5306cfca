"""What keeps a pod from starting, and whether the end of another one may help. Pure.

Read from the words of the scheduler (the condition ``PodScheduled``) and of the API server (the
condition ``ReplicaFailure`` of a Deployment whose pods it refuses). ``hindrances.csv`` says for
each wording whether what is missing is freed when a pod of the server ends (``yes``; ``no``: not
on that node; ``nowhere``: on no node, as one has room and the pod cannot run there), and what to do
where it is not. What other schedulers say in words of their own may be freed; what the API server
refuses is not, unless it is a quota.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Literal, cast

from vllm_operator import datafiles

Seen = Literal["scheduling", "deployment"]
Freed = Literal["yes", "no", "nowhere"]

TABLE: Final = "hindrances.csv"
TOO_LITTLE: Final = "Insufficient "

_BY_NODES = re.compile(r"(?:\d+/\d+|[Aa]ll) nodes are (?:un)?available: ")
_NEXT = re.compile(r", |\. (?=\d+ )")
_COUNTED = re.compile(r"^\d+ ")
_HELPLESS = re.compile(r"\b0/(\d+) nodes are available: \1 Preemption is not helpful")
_SELECTION = re.compile(r"(?<!volume )(?<!PersistentVolume's )node affinity")
_AMOUNT = re.compile(r"([\w./-]+)=(\d+)(?=,|$|\s)")


def is_freed(seen: Seen, message: str) -> bool:
    """Whether the end of a pod of the same server may free what another one waits for.

    The scheduler names a reason for each node: one that is freed is enough, unless another one
    says that the pod would run on no node. What no node has in all is not freed, and a quota that
    is smaller than what is asked for has no room, however many pods end.
    """
    if seen == "deployment":
        return _freed(seen, message, unknown="no") == "yes" and not _exceeds(message)
    told = reasons(message)
    if fits_no_node(message):
        told = [reason for reason in told if not reason.startswith(TOO_LITTLE)]
    found = {_freed(seen, reason, unknown="yes") for reason in told}
    return "yes" in found and "nowhere" not in found


def fits_no_node(message: str) -> bool:
    """Whether, where nodes have too little of something, none of them has as much in all.

    The scheduler says then of every node that ending pods there would not help: kube-scheduler 1.36
    noderesources/fit.go and framework/preemption/preemption.go. It says so of devices that a claim
    lacks too, which it does not count.
    """
    return bool(_HELPLESS.search(message.partition("preemption:")[2]))


def way_out(message: str, *, selects: bool = True) -> str:
    """What leads out where a pod has no node and the end of no other one helps; else empty.

    ``selects``: whether the user chose nodes, so that what a pod selects is his to correct.
    """
    if is_freed("scheduling", message):
        return ""
    found = [_way(one) for one in reasons(message) if selects or not is_selection(one)]
    return ", or ".join(dict.fromkeys(filter(None, found)))


def is_selection(reason: str) -> bool:
    """Whether it is the pod's own affinity or selector; a volume's is told by the same words."""
    return bool(_SELECTION.search(reason))


def _way(reason: str) -> str:
    return next((way for one, _, way in _rows("scheduling") if one.search(reason)), "")


def _exceeds(message: str) -> bool:
    """Whether more of a counted resource is requested than a quota has in all."""
    requested, limited = (_amounts(message, word) for word in ("requested", "limited"))
    return any(amount > limited.get(name, amount) for name, amount in requested.items())


def _amounts(message: str, word: str) -> dict[str, int]:
    said = message.partition(f"{word}: ")[2].partition(": ")[0]
    return {name: int(amount) for name, amount in _AMOUNT.findall(said)}


def reasons(message: str) -> list[str]:
    """The scheduler's reasons, one for each kind of node, without what it says of preemption.

    Volcano and KAI say theirs in the same shape, of nodes that are unavailable.
    """
    said = message.partition("preemption:")[0].strip()
    if not _BY_NODES.match(said):
        return [said]
    told = _NEXT.split(_BY_NODES.sub("", said).rstrip(" .,"))
    return [_COUNTED.sub("", reason) for reason in told]


def _freed(seen: Seen, text: str, *, unknown: Freed) -> Freed:
    found = (freed for fragment, freed, _ in _rows(seen) if fragment.search(text))
    return next(found, unknown)


@lru_cache(maxsize=2)
def _rows(seen: Seen) -> Sequence[tuple[re.Pattern[str], Freed, str]]:
    rows = [row for row in datafiles.rows(__package__, TABLE) if row["seen"] == seen]
    return [
        (re.compile(row["fragment"]), cast(Freed, row["freed"]), row["way_out"]) for row in rows
    ]
