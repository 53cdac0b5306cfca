"""The patterns of names, as Kubernetes has them (k8s.io/apimachinery, util/validation).

Both RE2, which the API server uses, and Python read them alike; none can backtrack for long.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_LABEL_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"

SERVICE_NAME: Final = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
OBJECT_NAME: Final = rf"^{_SUBDOMAIN}$"
DATA_KEY: Final = r"^[-._a-zA-Z0-9]+$"
LABEL_VALUE: Final = rf"^({_LABEL_NAME})?$"
QUALIFIED_NAME: Final = rf"^({_SUBDOMAIN}/)?{_LABEL_NAME}$"
OPTIONAL_QUALIFIED_NAME: Final = rf"^(({_SUBDOMAIN}/)?{_LABEL_NAME})?$"
EXTENDED_RESOURCE: Final = rf"^{_SUBDOMAIN}/{_LABEL_NAME}$"

_REPOSITORY = r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?"
_PART = r"[A-Za-z0-9_][A-Za-z0-9._=+@-]*"
_STORE = rf"(s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]*(/{_PART})*/?"
MODEL_ID: Final = rf"^({_REPOSITORY}|{_STORE}|(/{_PART})+)$"
"""A repository, an address in an object store, or a folder of the container."""
REPOSITORY_OR_FOLDER: Final = rf"^(/[A-Za-z0-9._/-]+|{_REPOSITORY})$"
REVISION: Final = r"^[A-Za-z0-9][A-Za-z0-9._/-]*$"
MODEL_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$"
"""A name that clients ask for."""
_FOLDER_NAME: Final = r"\.?[A-Za-z0-9_-][A-Za-z0-9._-]*"
FOLDER: Final = rf"^/({_FOLDER_NAME}(/{_FOLDER_NAME})*/?)?$"
"""An absolute path without ``.`` and ``..``."""
IMAGE: Final = r"^[a-z0-9A-Z][a-zA-Z0-9._:/@-]*$"
ENGINE_VERSION: Final = r"^[0-9]+\.[0-9]+\.[0-9]+([.+-][0-9A-Za-z.+-]*|(a|b|rc)[0-9]+)?$"
QUANTIZATION: Final = r"^[a-z0-9_-]+$"
PARSER: Final = r"^[A-Za-z0-9_.-]+$"
PRODUCT: Final = r"^[A-Za-z0-9]([A-Za-z0-9 ._-]*[A-Za-z0-9])?$"
VARIABLE: Final = r"^[A-Za-z_][A-Za-z0-9_]*$"

DNS_LABEL: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_SEGMENT = r"\.?[A-Za-z0-9_-][A-Za-z0-9._-]*"
MOUNT_PATH: Final = rf"^(/{_SEGMENT})+$"
RELATIVE_PATH: Final = rf"^{_SEGMENT}(/{_SEGMENT})*$"
"""Neither goes up (``..``), and each names a place in one way."""

QUANTITY: Final = r"^[0-9]+(\.[0-9]+)?([eE][0-9]{1,2}|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
"""Never negative, as no size of ours is."""


def _cron(value: str) -> str:
    """One place of a schedule: ``*`` or values and ranges, each with an optional step."""
    item = rf"(\*|{value}(-{value})?)(/[0-9]{{1,2}})?"
    return rf"{item}(,{item})*"


_SIXTY, _DAY_OF_MONTH = r"[0-5]?[0-9]", r"(0?[1-9]|[12][0-9]|3[01])"
CRON_SCHEDULE: Final = (
    rf"^{_cron(_SIXTY)} {_cron(r'([01]?[0-9]|2[0-3])')} {_cron(_DAY_OF_MONTH)} "
    rf"{_cron(r'(0?[1-9]|1[0-2])')} {_cron('[0-7]')}$"
)
TIME_ZONE: Final = r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$"

IMAGE_VERSION: Final = r":v?[0-9]+\.[0-9]+\.[0-9]+"
"""Part of an image reference whose tag says the vLLM version."""

MEANINGS: Final[Mapping[str, str]] = {
    MODEL_ID: "a repository of the Hugging Face Hub, such as Qwen/Qwen3-8B, an address in an "
    "object store (s3://, gs:// or az://), such as s3://models/qwen, or a folder of the engine's "
    "container, such as /opt/qwen; weights on a volume or in an image are named in "
    "spec.model.storage",
    REPOSITORY_OR_FOLDER: "a repository of the Hugging Face Hub, such as org/name, or an absolute "
    "path in the container",
    REVISION: "a branch, a tag or a commit, such as main",
    MODEL_NAME: "a name of letters, digits, '.', '_', ':', '/' and '-', a letter or digit first",
    FOLDER: "an absolute path, such as /models/qwen, without '.', '..' and spaces",
    IMAGE: "a container image, such as vllm/vllm-openai:v0.32.0",
    ENGINE_VERSION: "a version of vLLM, such as 0.32.0",
    QUANTIZATION: "the name of a quantisation, such as fp8_per_tensor, in lower-case letters and "
    "digits",
    PARSER: "the name of a parser, such as hermes: letters, digits, '_', '.' and '-'",
    PRODUCT: "a GPU product, such as H100 or NVIDIA-H100-80GB-HBM3",
    VARIABLE: "the name of a variable, such as HTTPS_PROXY: letters, digits and '_', and no digit "
    "first",
    OBJECT_NAME: "an object's name: lower-case letters, digits, '-' and '.'",
    DATA_KEY: "a key: letters, digits, '-', '_' and '.'",
    LABEL_VALUE: "a label value: letters, digits, '-', '_' and '.'",
    QUALIFIED_NAME: "a label name, such as zone or example.com/zone",
    OPTIONAL_QUALIFIED_NAME: "a label name, such as zone or example.com/zone",
    EXTENDED_RESOURCE: "an extended resource, such as nvidia.com/gpu",
    CRON_SCHEDULE: "five numbers, ranges or *, as in 0 2 * * *",
    TIME_ZONE: "the name of a time zone, such as Europe/Berlin",
    DNS_LABEL: "a label: lower-case letters, digits and '-'",
    MOUNT_PATH: "an absolute path without '..' and without a '/' at its end, such as /files",
    RELATIVE_PATH: "a relative path without '..'",
    QUANTITY: "a quantity, such as 500m, 2 or 16Gi",
}
"""What a reader is told instead of a pattern: every one that a field has."""
