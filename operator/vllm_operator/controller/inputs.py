"""Gathering of what a plan depends on: model facts, node offers, the default image. Edge."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from vllm_operator.api.pod import KeyReference
from vllm_operator.api.v1alpha1 import Model, VLLMServer
from vllm_operator.benchmark.kept import RESULTS_LABEL, config_map_name
from vllm_operator.engine.versions import DEFAULT_IMAGE
from vllm_operator.errors import ApiError, PlanningError, TemporaryFailure, UnknownModel
from vllm_operator.lifecycle.kinds import CLAIMS, CONFIG_MAPS
from vllm_operator.lifecycle.standing import Standing
from vllm_operator.models import catalogue
from vllm_operator.models.facts import ModelFacts, facts_from_json
from vllm_operator.models.sources import facts_of
from vllm_operator.sizing.asked.defaults import overlaid
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.asked.storage import CLAIM_FIELD, ClaimFacts, volume_of

from .client import Client
from .nodes import Nodes
from .settings import OperatorSettings

LARGEST_GROUP: Final = 8
"""Nodes that one replica may have."""

HUB_MEMORY_SECONDS: Final = 300.0
"""How long an answer of the Hub serves further servers of the same model."""

HubKey = tuple[str, str | None, bool]

HUB_QUESTIONS: Final = 3
"""Questions to the Hub at once: they may hang, and every other server's visits need the threads."""

HUB_ANSWERS_LIMIT: Final = 1000


class InputSource:
    """Resolves the inputs of plans."""

    def __init__(self, client: Client, nodes: Nodes, settings: OperatorSettings) -> None:
        self._client = client
        self._nodes = nodes
        self._settings = settings
        self.groups = False
        """Whether the cluster has LeaderWorkerSets, which replicas on several nodes take."""
        self._hub: dict[HubKey, tuple[float, asyncio.Task[ModelFacts]]] = {}
        self._questions = asyncio.Semaphore(HUB_QUESTIONS)
        self._config_maps: dict[tuple[str, str], ModelFacts] = {}

    async def resolve(self, server: VLLMServer, standing: Standing | None = None) -> PlanningInputs:
        """Inputs for a new plan, live. What ``standing`` holds is kept by an edit of other things.

        Raises TemporaryFailure where a source is away and may come back.
        """
        server = self._whole(server)
        facts, problem = standing.facts if standing else None, None
        self.forget((server.metadata.namespace, server.metadata.name))
        if facts is None:
            try:
                facts = await self._facts(server)
            except PlanningError as error:
                problem = error
        return self._inputs(facts, problem, standing, await self._claim(server))

    def forget(self, key: tuple[str, str]) -> None:
        """Drop what was read of a server's ConfigMap."""
        self._config_maps.pop(key, None)

    async def compare(
        self, server: VLLMServer, pinned: PlanningInputs, *, live: bool
    ) -> PlanningInputs:
        """Inputs that a new plan would have now.

        What only the Hub knows is taken as it was pinned, and so are a claim's access modes, which
        never change, and a ConfigMap unless ``live``.
        """
        server = self._whole(server)
        model, claim = pinned.model, pinned.claim
        if claim is not None and claim.name != volume_of(server.spec).source:
            claim = None  # the platform names another one now
        if model is not None and model.source == "hub":
            return self._inputs(catalogue.find(server.spec.model.id) or model, claim=claim)
        if model is not None and model.source == "configMap":
            return self._inputs(await self._reread(server, model, live), claim=claim)
        try:
            return self._inputs(await self._facts(server), claim=claim)
        except PlanningError as problem:
            return self._inputs(None, problem, claim=claim)

    async def benchmarks(self, server: VLLMServer) -> Mapping[str, str]:
        """What ``vllm-operator benchmark`` keeps of a server; nothing where it cannot be read."""
        metadata = server.metadata
        try:
            name = config_map_name(metadata.name)
            found = await self._client.get(CONFIG_MAPS, metadata.namespace, name)
        except ApiError:
            return {}
        labels = (found or {}).get("metadata", {}).get("labels") or {}
        ours = labels.get(RESULTS_LABEL) == metadata.name
        return (found or {}).get("data") or {} if ours else {}

    def _whole(self, server: VLLMServer) -> VLLMServer:
        """The server with the platform's defaults, as it is planned."""
        if self._settings.defaults_problem:
            raise TemporaryFailure(self._settings.defaults_problem)
        return overlaid(server, self._settings.defaults).server

    async def _reread(self, server: VLLMServer, pinned: ModelFacts, live: bool) -> ModelFacts:
        key = (server.metadata.namespace, server.metadata.name)
        if live:
            try:
                self._config_maps[key] = await self._facts(server)
            except PlanningError:
                self._config_maps.pop(key, None)  # gone or broken: nothing newer to compare with
        return self._config_maps.get(key, pinned)

    def _inputs(
        self,
        facts: ModelFacts | None,
        problem: PlanningError | None = None,
        standing: Standing | None = None,
        claim: ClaimFacts | None = None,
    ) -> PlanningInputs:
        offers = self._nodes.offers()
        standing = standing or Standing()
        if standing.offer is not None and standing.product not in {o.product for o in offers}:
            # Its nodes are scaled away: the product stays, and its pods will bring nodes back.
            offers = (*offers, replace(standing.offer, nodes=0))
        return PlanningInputs(
            model=facts,
            model_problem=problem,
            offers=offers,
            nodes_visible=self._nodes.visible,
            shared_products=self._nodes.shared_products(),
            default_image=standing.image or self._settings.default_image or DEFAULT_IMAGE,
            preferred_product=standing.product,
            max_nodes=LARGEST_GROUP if self.groups else 1,
            claim=claim,
            host_path_prefixes=self._settings.host_path_prefixes,
            identity=self._settings.pod_identity,
            defaults=self._settings.defaults,
            prices=self._settings.prices,
        )

    async def _claim(self, server: VLLMServer) -> ClaimFacts | None:
        """The PersistentVolumeClaim that the server names; None where it is not there (yet)."""
        volume = volume_of(server.spec)
        if volume.kind != "PersistentVolumeClaim":
            return None
        try:
            found = await self._client.get(CLAIMS, server.metadata.namespace, volume.source)
        except ApiError as error:
            if error.code == 403:
                return None  # rights of an older chart: rollouts are as with a shared volume
            raise TemporaryFailure(error.message, CLAIM_FIELD) from error
        if found is None:
            return None
        return ClaimFacts(volume.source, tuple(found["spec"].get("accessModes") or ()))

    async def _facts(self, server: VLLMServer) -> ModelFacts:
        namespace = server.metadata.namespace
        found = facts_of(
            server.spec.model,
            partial(self._from_config_map, namespace),
            partial(self._from_hub, namespace),
        )
        return found if isinstance(found, ModelFacts) else await found

    async def _from_config_map(self, namespace: str, reference: KeyReference) -> ModelFacts:
        field = "spec.model.configMapRef"
        try:
            found = await self._client.get(CONFIG_MAPS, namespace, reference.name)
        except ApiError as error:
            raise TemporaryFailure(error.message, field) from error
        if found is None:
            raise UnknownModel(
                f"{field}.name",
                f"there is no ConfigMap {reference.name} in namespace {namespace}; "
                "create it with the model's config.json, or give spec.model.config",
            )
        data: Mapping[str, Any] = found.get("data") or {}
        if reference.key not in data:
            present = ", ".join(sorted(data)) or "none"
            raise UnknownModel(
                f"{field}.key",
                f"ConfigMap {reference.name} has no key {reference.key}; its keys: {present}",
            )
        return facts_from_json(data[reference.key], "configMap")

    async def _from_hub(self, namespace: str, model: Model) -> ModelFacts:
        if not self._settings.hub:
            near = catalogue.nearest(model.id)
            raise UnknownModel(
                "spec.model.id",
                f"{model.id} is not in the catalogue and this operator may not ask the Hugging "
                "Face Hub; give the facts of its config.json in spec.model.config or "
                "spec.model.configMapRef" + (f"; the nearest known is {near}" if near else ""),
            )
        allowed = namespace in self._settings.hub_token_namespaces
        token = self._settings.hub_token if allowed else None
        key = (model.id, model.revision, token is not None)
        if len(self._hub) >= HUB_ANSWERS_LIMIT:
            self._hub.clear()
        known = self._hub.get(key)
        if known is None or time.monotonic() - known[0] > HUB_MEMORY_SECONDS:
            task = asyncio.create_task(self._ask_hub(model.id, model.revision, token))
            known = (time.monotonic(), task)
            self._hub[key] = known
        try:
            return await asyncio.shield(known[1])
        except TemporaryFailure:
            self._hub.pop(key, None)
            raise

    async def _ask_hub(self, model_id: str, revision: str | None, token: str | None) -> ModelFacts:
        # Imported here: the Hub's client costs 15 MB and most installations never ask it.
        from vllm_operator.models import hub

        async with self._questions:
            return await asyncio.to_thread(hub.fetch, model_id, revision, token)
