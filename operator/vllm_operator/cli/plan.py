"""``vllm-operator plan``: what the operator would do with a manifest, without a cluster."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click
import yaml
from pydantic import ValidationError
from rich.console import Console

from vllm_operator.api.crd import schema_problems
from vllm_operator.api.plan import PROBLEM_LIMIT, SCHEMA_VERSION, Plan, Problem, Unplanned
from vllm_operator.api.pod import Identity, KeyReference
from vllm_operator.api.v1alpha1 import GPU, Model, VLLMServer
from vllm_operator.engine.versions import DEFAULT_IMAGE
from vllm_operator.errors import PlanningError, TemporaryFailure, UnknownModel
from vllm_operator.hardware import nodes as node_inventory
from vllm_operator.hardware.measured import MeasuredGPU
from vllm_operator.hardware.prices import NO_PRICES, Prices
from vllm_operator.manifests.planned import Planned, planned
from vllm_operator.models import catalogue
from vllm_operator.models.facts import ModelFacts, facts_from_json
from vllm_operator.models.sources import facts_of
from vllm_operator.sizing.asked.defaults import NO_DEFAULTS, Defaults
from vllm_operator.sizing.asked.inputs import PlanningInputs

from .documents import (
    Manifests,
    read_manifests,
    read_measured_gpus,
    read_nodes,
    read_platform_defaults,
    read_price_list,
)
from .options import output_option, surroundings_options, told
from .table import show_plans

ALL_FEASIBLE: Final = 0
SOME_INFEASIBLE: Final = 1
PLANNED_NODES: Final = 8
"""Nodes of one replica that are looked at unless ``--max-nodes`` says otherwise."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What stands in for a cluster on the command line."""

    offers: tuple[node_inventory.GPUOffer, ...] = ()
    shared_products: tuple[str, ...] = ()
    nodes_visible: bool = False
    gpu: str | None = None
    gpus_per_node: int | None = None
    offline: bool = False
    max_nodes: int = 1
    """Nodes that one replica may have."""
    identity: Identity = "Fixed"
    """Who says the user and the groups of pods whose server does not."""
    defaults: Defaults = NO_DEFAULTS
    """What the platform gives to servers that do not say it themselves."""
    measured_gpus: tuple[MeasuredGPU, ...] = ()
    """GPU products that were measured."""
    prices: Prices = NO_PRICES
    """What an hour of a GPU costs."""


def plan_manifests(manifests: Manifests, around: Surroundings) -> list[Planned | Unplanned]:
    """One entry for each server of the manifests, in order."""
    return [_planned(manifest, manifests, around) for manifest in manifests.servers]


def surroundings(
    nodes: str | None,
    gpu: str | None,
    gpus_per_node: int | None,
    offline: bool,
    max_nodes: int = 1,
    identity: Identity = "Fixed",
    defaults: str | None = None,
    measured: str | None = None,
    prices: str | None = None,
) -> Surroundings:
    """The options of the command line, read; raises ``InputError``."""
    found = read_nodes(nodes) if nodes is not None else []
    offers = node_inventory.inventory(found)
    return Surroundings(
        offers=offers,
        shared_products=node_inventory.shared_products(found),
        nodes_visible=nodes is not None,
        gpu=gpu,
        gpus_per_node=gpus_per_node,
        offline=offline,
        max_nodes=max_nodes,
        identity=identity,
        defaults=NO_DEFAULTS if defaults is None else read_platform_defaults(defaults),
        measured_gpus=() if measured is None else read_measured_gpus(measured),
        prices=NO_PRICES if prices is None else read_price_list(prices),
    )


def _planned(
    manifest: Mapping[str, Any], manifests: Manifests, around: Surroundings
) -> Planned | Unplanned:
    problems = list(schema_problems(manifest))
    if problems:
        return _refused(manifest, problems)
    try:
        server = _overridden(VLLMServer.model_validate(manifest), around)
    except ValidationError as problem:
        return _refused(manifest, Problem.all_of(problem))
    facts, stopped = None, None
    try:
        facts = _facts(server, manifests, offline=around.offline)
    except PlanningError as problem:
        stopped = problem
    inputs = PlanningInputs(
        model=facts,
        model_problem=stopped,
        offers=around.offers,
        nodes_visible=around.nodes_visible,
        shared_products=around.shared_products,
        default_image=DEFAULT_IMAGE,
        preferred_product=None,
        max_nodes=around.max_nodes,
        identity=around.identity,
        defaults=around.defaults,
        measured_gpus=around.measured_gpus,
        prices=around.prices,
    )
    try:
        return planned(server, inputs)
    except Exception as error:  # one document that meets a defect never loses the others
        return _refused(manifest, [_unexpected(error)])


def _unexpected(error: Exception) -> Problem:
    """Nearly always a config of the model that nobody thought of."""
    message = f"planning failed unexpectedly ({type(error).__name__}: {error}); this is a defect"
    return Problem(field="spec.model.config", reason="UnknownModel", message=message[:1024])


def _overridden(server: VLLMServer, around: Surroundings) -> VLLMServer:
    """The server with the GPU of the command line instead of its own."""
    if around.gpu is None and around.gpus_per_node is None:
        return server
    gpu = server.spec.gpu or GPU()
    per_node = around.gpus_per_node or gpu.per_node
    if around.gpu is not None:
        changed = GPU(product=around.gpu, per_node=per_node)
    else:
        changed = gpu.model_copy(update={"per_node": per_node})
    spec = server.spec.model_copy(update={"gpu": changed})
    return server.model_copy(update={"spec": spec})


def _facts(server: VLLMServer, manifests: Manifests, *, offline: bool) -> ModelFacts:
    def from_file(reference: KeyReference) -> ModelFacts:
        namespace = server.metadata.namespace
        data = manifests.config_maps.get((namespace, reference.name))
        if data is None or reference.key not in data:
            raise UnknownModel(
                "spec.model.configMapRef",
                f"the same file holds no ConfigMap {namespace}/{reference.name} "
                f"with the key {reference.key}; add it, or give spec.model.config",
            )
        return facts_from_json(data[reference.key], "configMap")

    return facts_of(server.spec.model, from_file, _not_asked if offline else _from_hub)


def _not_asked(model: Model) -> ModelFacts:
    near = catalogue.nearest(model.id)
    hint = f" (the nearest that is catalogued is {near})" if near else ""
    raise UnknownModel(
        "spec.model.id",
        f"{model.id} is not catalogued{hint}; give its config.json in spec.model.config, "
        "or ask the Hub by leaving out --offline",
    )


def _from_hub(model: Model) -> ModelFacts:
    # Imported here: the Hub's client takes half a second to load, and most plans never ask it.
    from vllm_operator.models import hub

    try:
        return hub.fetch(model.id, model.revision, os.environ.get("HF_TOKEN") or None)
    except TemporaryFailure as problem:
        raise UnknownModel(
            "spec.model.id",
            f"{model.id} is not catalogued, and the Hub did not answer "
            f"({str(problem).removeprefix('spec.model.id: ')}); try again, or give its "
            "config.json in spec.model.config",
        ) from problem


def _refused(manifest: Mapping[str, Any], problems: Sequence[Problem]) -> Unplanned:
    metadata = manifest.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    return Unplanned(
        schema_version=SCHEMA_VERSION,
        inputs_hash="",
        name=str(metadata.get("name", ""))[:253],
        namespace=str(metadata.get("namespace", "default"))[:253],
        feasible=False,
        problems=list(problems)[:PROBLEM_LIMIT],
    )


def planned_or_exit(
    filename: str, max_nodes: int = PLANNED_NODES, identity: Identity = "Fixed", **given: Any
) -> list[Planned | Unplanned]:
    """What becomes of each server of a manifest; ends the process where the input is unreadable.

    ``given`` are the options of ``surroundings_options``.
    """
    with told():
        around = surroundings(**given, max_nodes=max_nodes, identity=identity)
        return plan_manifests(read_manifests(filename), around)


def exit_status(plans: Sequence[Planned | Unplanned]) -> int:
    """0 if every document can be planned, 1 if some cannot."""
    whole = all(isinstance(one, Planned) for one in plans)
    return ALL_FEASIBLE if whole else SOME_INFEASIBLE


@click.command("plan")
@click.option(
    "-f",
    "--filename",
    required=True,
    metavar="FILE",
    help="Manifest with one or more VLLMServers; - reads standard input.",
)
@output_option("table", "json", "yaml", says="How to print the plans.")
@surroundings_options()
@click.option(
    "--max-nodes",
    type=click.IntRange(1, 64),
    default=PLANNED_NODES,
    show_default=True,
    metavar="N",
    help="Nodes that one replica may have where one node is not enough.",
)
def plan_command(filename: str, output: str, max_nodes: int, **around: Any) -> None:
    """Show what the operator would do with a manifest, and why.

    Exit status: 0 if every server can be planned, 1 if some cannot, 2 for unreadable input.
    """
    found = planned_or_exit(filename, max_nodes, **around)
    plans = [one.plan if isinstance(one, Planned) else one for one in found]
    if output == "table":
        show_plans(Console(highlight=False), plans)
    else:
        click.echo(_printed(plans, output), nl=False)
    sys.exit(exit_status(found))


def _printed(plans: Sequence[Plan | Unplanned], output: str) -> str:
    documents = [plan.to_json_object() for plan in plans]
    if output == "json":
        return json.dumps(documents, indent=2, ensure_ascii=False) + "\n"
    return str(yaml.safe_dump(documents, sort_keys=False, allow_unicode=True))
