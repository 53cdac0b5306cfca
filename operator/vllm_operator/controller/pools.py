"""The InferencePool that a server asks for, in clusters that have them and let the operator. Edge.

It is in no plan, and nothing that is missing keeps the server from running: a condition says it.
InferencePools are not watched, because a watch of a kind that is not there never ends. One is read
at each visit of a server that asks for it, and what somebody changed is put right then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vllm_operator.api.conditions import ConditionDraft, ConditionStatus, truncate
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.errors import ApiError, NameConflict, Stale
from vllm_operator.lifecycle.intent import World
from vllm_operator.lifecycle.kinds import INFERENCE_POOLS
from vllm_operator.lifecycle.notes import Note
from vllm_operator.lifecycle.objections import ASK_AGAIN_SECONDS, conflicted
from vllm_operator.lifecycle.records import Key
from vllm_operator.manifests.render import Object, inference_pool

from .apply import Applier, differs, is_refusal, mark_of, with_applied_hash
from .children import repair_note
from .client import Client
from .metrics import Metrics

KIND: Final = INFERENCE_POOLS.kind
CONDITION: Final = "Routed"
INSTALL: Final = (
    "kubectl apply -f https://github.com/kubernetes-sigs/gateway-api-inference-extension/releases/"
    "download/v1.5.0/v1-manifests.yaml"
)


@dataclass(frozen=True, slots=True)
class Routed:
    """What came of a server's InferencePool."""

    conditions: tuple[ConditionDraft, ...] = ()
    """What is said of it; nothing of a server that asks for none."""
    look_again: float | None = None
    """Seconds after which what is missing may be there."""
    notes: tuple[Note, ...] = ()
    """Events that tell of it."""


class Pools:
    """Makes, keeps and removes the InferencePools of servers."""

    def __init__(self, client: Client, applier: Applier, metrics: Metrics) -> None:
        self._client = client
        self._applier = applier
        self._metrics = metrics

    async def bring(self, key: Key, world: World) -> Routed:
        """Bring a server's InferencePool to what the server asks for.

        Raises ApiError and TemporaryFailure where the API server fails, and Stale where what was
        read is out of date.
        """
        server, before = world.server, world.remembered.condition(CONDITION)
        pool = inference_pool(server)
        if server.spec.paused or world.unreadable:
            if before is not None:
                return Routed((_draft(before.reason, before.message, before.status),))
            why = "spec.paused is true, and spec.routing as it stands was not looked at"
            return Routed() if pool is None else Routed((_draft("Paused", why, "Unknown"),))
        if pool is None:
            if before is not None:
                await self._remove(key, server)
            return Routed()
        try:
            return await self._apply(key, server, with_applied_hash(pool))
        except NameConflict as conflict:
            found = conflicted(conflict)
            said = _draft("NameConflict", found.problems[0].message)
            return Routed((said,), look_again=found.ask_again)
        except ApiError as error:
            return Routed((await self._refused(error),), look_again=ASK_AGAIN_SECONDS)

    async def _apply(self, key: Key, server: VLLMServer, desired: Object) -> Routed:
        """Apply what differs. Raises NameConflict, ApiError and Stale."""
        picker = desired["spec"]["endpointPickerRef"]
        said = _draft(
            "Applied",
            f"{KIND} {key[1]} selects the pods that serve, and names Service {picker['name']}, "
            f"port {picker['port']['number']}, as their endpoint picker",
            "True",
        )
        live = await self._applier.ensure_ours(KIND, key, key[1], server.metadata.uid)
        if live is not None and live.deleting:
            raise Stale(f"{KIND} {key[1]} is about to go")
        mark_key = (KIND, server.metadata.uid, mark_of(desired).applied_hash)
        if not differs(self._applier.mark(mark_key, lambda: desired), live):
            return Routed((said,))
        try:
            applied = await self._applier.apply(desired, live, key, mark_key)
        except ApiError as error:
            if error.code != 409:
                raise
            raise Stale(f"{KIND} {key[1]} has changed since it was read") from error
        self._metrics.writes.labels(KIND).inc()
        repaired = live is not None and live.applied_hash == applied.applied_hash
        return Routed((said,), notes=(repair_note(KIND, key[1]),) if repaired else ())

    async def _remove(self, key: Key, server: VLLMServer) -> None:
        """Delete the InferencePool that is asked for no more, where it is ours."""
        try:
            live = await self._applier.ensure_ours(KIND, key, key[1], server.metadata.uid)
            if live is not None and not live.deleting:
                await self._client.delete(INFERENCE_POOLS, key[0], key[1], uid=live.uid)
                self._metrics.writes.labels(KIND).inc()
        except NameConflict:
            return
        except ApiError as error:
            if error.code not in (403, 404, 409):
                raise
            # Without the right, or the kind, there is nothing of ours that could be reached.

    async def _refused(self, error: ApiError) -> ConditionDraft:
        """What is missing, and how to get it. Raises ``error`` where that is not what it says."""
        # So RBAC says it; a webhook or a quota names no resource.
        forbidden = error.code == 403 and f'resource "{INFERENCE_POOLS.plural}"' in error.message
        right = "the operator may not write InferencePools: set inferencePools.enabled in its chart"
        if error.code in (403, 404) and not await self._client.serves(INFERENCE_POOLS):
            lacks = (
                f"the cluster has no InferencePools of {INFERENCE_POOLS.api_version}, the Gateway "
                f"API Inference Extension: {INSTALL}"
            )
            return _draft("InferencePoolMissing", f"{lacks}; and {right}" if forbidden else lacks)
        if forbidden:
            return _draft("InferencePoolForbidden", f"{right}. {error.message}")
        if not is_refusal(error):
            raise error
        return _draft("ObjectRefused", f"the API server refuses {KIND}: {error.message}")


def _draft(reason: str, message: str, status: ConditionStatus = "False") -> ConditionDraft:
    return ConditionDraft(type=CONDITION, status=status, reason=reason, message=truncate(message))
