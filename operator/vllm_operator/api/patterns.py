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

IMAGE: Final = r"^[a-z0-9A-Z][a-zA-Z0-9._:/@-]*$"
IMAGE_VERSION: Final = r":v?[0-9]+\.[0-9]+\.[0-9]+"
"""Part of an image reference whose tag says the vLLM version."""

MEANINGS: Final[Mapping[str, str]] = {
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
"""What a reader is told instead of the pattern."""
