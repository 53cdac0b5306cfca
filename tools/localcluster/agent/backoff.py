"""How long a kubelet waits before it tries again. Pure.

Kubernetes 1.36: pkg/kubelet/kubelet.go (backOffPeriod 10 s, MaxCrashLoopBackOff 300 s), client-go
util/flowcontrol/backoff.go (doubled each time; forgotten after twice the maximum).
"""

BASE_SECONDS = 10.0
MAX_SECONDS = 300.0


class BackOff:
    """Of one container's starts or one image's pulls; seconds of a kubelet's clock."""

    def __init__(self) -> None:
        self._next = 0.0
        self._last = 0.0

    def after_failure(self, now: float) -> float:
        """The wait before the next try; 0 after the first failure, as with a kubelet."""
        if now - self._last > 2 * MAX_SECONDS:
            self._next = 0.0
        wait, self._last = self._next, now
        self._next = min(wait * 2 or BASE_SECONDS, MAX_SECONDS)
        return wait


def duration(seconds: float) -> str:
    """As Go prints whole seconds: `10s`, `1m20s`, `5m0s`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
