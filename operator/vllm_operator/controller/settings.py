"""Settings of the operator's process, from flags and environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vllm_operator.api.pod import Identity
from vllm_operator.hardware.prices import NO_PRICES, Prices
from vllm_operator.sizing.asked.defaults import NO_DEFAULTS, Defaults


@dataclass(frozen=True)
class PrometheusSettings:
    """Where Prometheus is and how it is asked."""

    url: str
    secrets: Path | None = None
    """Folder with the files ``bearer-token``, ``username``, ``password``, ``ca.crt`` and
    ``tenant``, each of them optional; read at each query, because Secrets change."""
    tenant_header: str = "X-Scope-OrgID"
    namespace_label: str = "namespace"
    pod_label: str = "pod"
    interval: float = 15.0
    """Seconds between samples that are to be learned from, at least."""


@dataclass(frozen=True)
class OperatorSettings:
    """How one operator process runs. Nothing here changes a server that runs already."""

    namespaces: tuple[str, ...] = ()
    """Namespaces to act in; empty: all of them."""

    watch_nodes: bool = True
    """Whether nodes may be listed and watched (needs the permission)."""

    default_image: str = ""
    """Image for servers that name none; empty: the release's own."""

    listen: str = "0.0.0.0:8080"
    """Address of /healthz, /readyz and /metrics; empty: none."""

    leader_election: bool = False
    """Whether several replicas agree by a Lease on which one acts."""

    lease_namespace: str = "default"
    lease_name: str = "vllm-operator"
    lease_seconds: int = 15

    hub: bool = True
    """Whether the Hugging Face Hub may be asked for facts of models that are not catalogued."""

    hub_token: str | None = None
    hub_token_namespaces: tuple[str, ...] = ()
    """Namespaces whose servers may use the operator's own Hub token; empty: none."""

    host_path_prefixes: tuple[str, ...] = ()
    """Folders of nodes that servers may use as storage; empty: none."""

    pod_identity: Identity = "Fixed"
    """Who says the user and the groups of pods whose server does not."""

    defaults: Defaults = NO_DEFAULTS
    """What servers get that do not say it themselves."""

    defaults_problem: str = ""
    """What is wrong in them: nothing new is planned until it is corrected."""

    prices: Prices = NO_PRICES
    """What an hour of a GPU costs, as far as it is said."""

    calibration: bool = False
    """Whether engines are asked for the KV cache that they measured, for the next plan."""

    prometheus: PrometheusSettings | None = None
    """Where engines' metrics are read; None: nowhere, and nothing is tuned."""

    tuning_max_concurrent_trials: int = 3
    """Trials of all servers that run at once; 0: none begins."""

    tuning_may_preempt: bool = False
    """Whether servers with a priority class, whose trials may push others' pods off a node, are
    tried where ``disruption`` is Forbid."""

    resync_seconds: float = 600.0
    """How often everything is listed live: deletions inside a watch gap are never delivered."""

    workers: int = 24
    """Servers that are reconciled at once."""

    drain_seconds: float = 20.0
    """How long SIGTERM waits for reconciles in flight."""
