"""Everything beside the specification that a plan depends on, as plain data that can be pinned."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from vllm_operator import errors
from vllm_operator.api.canonical import canonical_json
from vllm_operator.api.pod import Identity
from vllm_operator.hardware.measured import MeasuredGPU
from vllm_operator.hardware.nodes import GPUOffer
from vllm_operator.hardware.prices import NO_PRICES, Prices
from vllm_operator.models.facts import ModelFacts
from vllm_operator.sizing.memory.calibration import Calibration
from vllm_operator.sizing.performance.learned import MeasuredSpeed

from .defaults import NO_DEFAULTS, Defaults
from .repairs import Repair
from .storage import ClaimFacts
from .tuned import Tuned

_PLANNING_ERRORS: Final = {kind.reason: kind for kind in errors.PlanningError.__subclasses__()}


def problem_to_json(problem: errors.PlanningError) -> dict[str, str]:
    """A planning error as plain JSON."""
    return {"field": problem.field, "reason": problem.reason, "message": problem.message}


def problem_from_json(document: Mapping[str, str]) -> errors.PlanningError:
    """The inverse of ``problem_to_json``."""
    error = _PLANNING_ERRORS.get(document["reason"], errors.Infeasible)
    return error(document["field"], document["message"])


@dataclass(frozen=True, slots=True)
class PlanningInputs:
    """What is resolved once for a specification and pinned with its plan."""

    model: ModelFacts | None
    """The model's facts, None where no source has them."""
    default_image: str
    """The image that runs where the specification names none."""
    model_problem: errors.PlanningError | None = field(default=None, compare=False)
    """Why there are no facts."""
    offers: tuple[GPUOffer, ...] = ()
    """What the nodes offer; empty where there are none, or none that are visible."""
    nodes_visible: bool = False
    """Whether nodes were looked at."""
    shared_products: tuple[str, ...] = ()
    """Products whose GPUs pods share on some node: none is chosen by itself."""
    preferred_product: str | None = None
    """Product of the plan in force: kept where the specification names none and it still fits."""
    max_nodes: int = 1
    """Nodes that one replica may have; several take LeaderWorkerSets."""
    claim: ClaimFacts | None = None
    """The PersistentVolumeClaim that the specification names, where it was read."""
    host_path_prefixes: tuple[str, ...] | None = None
    """Folders of nodes that servers may use; None where no operator's settings are known."""
    identity: Identity = "Fixed"
    """Who says the user of pods whose specification does not."""
    defaults: Defaults = NO_DEFAULTS
    """What servers get that do not say it themselves."""
    repairs: tuple[Repair, ...] = ()
    """What engines of this specification that did not start have taught."""
    calibrations: tuple[Calibration, ...] = ()
    """What running engines of this model have measured."""
    tuned: Tuned | None = None
    """What a trial on this server has proven."""
    measured_gpus: tuple[MeasuredGPU, ...] = ()
    """GPU products that were measured here, in place of their datasheets."""
    measured_speeds: tuple[MeasuredSpeed, ...] = ()
    """How fast servers of this model were measured to be."""
    prices: Prices = NO_PRICES
    """What an hour of a GPU costs, as far as it is said."""

    def to_json_object(self) -> dict[str, Any]:
        """The inputs as plain JSON, for pinning."""
        tuned = {} if self.tuned is None else {"tuned": self.tuned.to_json_object()}
        identity = {} if self.identity == "Fixed" else {"identity": self.identity}
        gpus = [one.to_json_object() for one in self.measured_gpus]
        speeds = [one.to_json_object() for one in self.measured_speeds]
        given = self.defaults.to_json_object() if self.defaults != NO_DEFAULTS else None
        return {
            "model": self.model.to_json_object() if self.model else None,
            "modelProblem": problem_to_json(self.model_problem) if self.model_problem else None,
            "offers": [offer.to_json_object() for offer in self.offers],
            "nodesVisible": self.nodes_visible,
            "defaultImage": self.default_image,
            "sharedProducts": list(self.shared_products),
            "preferredProduct": self.preferred_product,
            "maxNodes": self.max_nodes,
            "claim": self.claim.to_json_object() if self.claim else None,
            "hostPathPrefixes": _listed(self.host_path_prefixes),
            "repairs": [repair.to_json_object() for repair in self.repairs],
            "calibrations": [one.to_json_object() for one in self.calibrations],
            # Not where they say nothing: the hash of such a plan stays what it was.
            **identity,
            **({} if given is None else {"defaults": given}),
            **tuned,
            **({"measuredGPUs": gpus} if gpus else {}),
            **({"measuredSpeeds": speeds} if speeds else {}),
            **({} if self.prices == NO_PRICES else {"prices": self.prices.to_json_object()}),
        }

    @classmethod
    def from_json_object(cls, document: Mapping[str, Any]) -> PlanningInputs:
        """The inverse of ``to_json_object``."""
        model, problem = document["model"], document["modelProblem"]
        claim, prefixes = document.get("claim"), document.get("hostPathPrefixes")
        tuned = document.get("tuned")
        return cls(
            model=ModelFacts.from_json_object(model) if model else None,
            model_problem=problem_from_json(problem) if problem else None,
            offers=tuple(GPUOffer.from_json_object(offer) for offer in document["offers"]),
            nodes_visible=document["nodesVisible"],
            default_image=document["defaultImage"],
            shared_products=tuple(document["sharedProducts"]),
            preferred_product=document["preferredProduct"],
            max_nodes=document.get("maxNodes", 1),  # absent in what earlier releases pinned
            claim=ClaimFacts.from_json_object(claim) if claim else None,
            host_path_prefixes=None if prefixes is None else tuple(prefixes),
            identity=document.get("identity", "Fixed"),
            defaults=defaults_of(document),
            repairs=tuple(map(Repair.from_json_object, document.get("repairs") or ())),
            calibrations=tuple(
                map(Calibration.from_json_object, document.get("calibrations") or ())
            ),
            tuned=Tuned.from_json_object(tuned) if tuned else None,
            measured_gpus=tuple(
                map(MeasuredGPU.from_json_object, document.get("measuredGPUs") or ())
            ),
            measured_speeds=tuple(
                map(MeasuredSpeed.from_json_object, document.get("measuredSpeeds") or ())
            ),
            prices=Prices.from_json_object(document["prices"])
            if document.get("prices")
            else NO_PRICES,
        )

    def fingerprint(self) -> str:
        """Hash of the inputs; equal before and after a round trip through JSON."""
        return hashlib.sha256(canonical_json(self.to_json_object()).encode()).hexdigest()


def defaults_of(document: Mapping[str, Any]) -> Defaults:
    """The defaults among inputs as they are pinned."""
    return Defaults.model_validate(document.get("defaults") or {})


def _listed(values: tuple[str, ...] | None) -> list[str] | None:
    return None if values is None else list(values)
