"""How requests from outside find a server: what the operator puts up for a gateway."""

from __future__ import annotations

from typing import Literal

from .base import ResourceModel
from .fields import field, required
from .patterns import OBJECT_NAME


class EndpointPickerReference(ResourceModel):
    """The endpoint picker that a gateway asks for each request."""

    name: str = required(
        "Service of the endpoint picker, in the server's namespace. Whoever runs the gateway "
        "provides it; the operator does not.",
        max_length=253,
        pattern=OBJECT_NAME,
    )
    port: int | None = field("Port of that Service; 9002 by default.", ge=1, le=65535)
    failure_mode: Literal["FailClose", "FailOpen"] | None = field(
        "What the gateway does while the picker does not answer. FailClose (default): it refuses "
        "requests. FailOpen: it takes any pod."
    )


class InferencePool(ResourceModel):
    """An InferencePool (inference.networking.k8s.io/v1) with the server's name."""

    endpoint_picker_ref: EndpointPickerReference = required("Who picks a pod for each request.")


class Routing(ResourceModel):
    """Objects by which a gateway finds the pods. A change of them restarts no pod."""

    inference_pool: InferencePool | None = field(
        "An InferencePool of the Gateway API Inference Extension over the pods that serve, for an "
        "HTTPRoute to name as its backend. It takes the extension in the cluster and the chart "
        "value inferencePools.enabled; the condition Routed says what is missing."
    )
