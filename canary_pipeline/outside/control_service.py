"""What a rollout asks of staging over HTTP: a cohort's probe, the live percents, and snapshots."""

from canary_pipeline.model.plan import SnapshotKind
from canary_pipeline.model.urls import origin, shown_url
from canary_pipeline.outside.answers import HTTP_OK, Answer, Failure
from canary_pipeline.outside.endpoints import Endpoints
from canary_pipeline.outside.tls import Tls
from canary_pipeline.outside.token import Token, TokenUnavailableError

EVALUATE_PATH = "/api/v1/control/runtime-routing/evaluate"
ROUTING_STATUS_PATH = "/api/v1/control/runtime-routing/status"
MOST_RESPONSE_BYTES = 1024 * 1024
MOST_SNAPSHOT_BYTES = 16 * 1024 * 1024


class ControlService:
    """The staging side, as one rollout sees it."""

    def __init__(
        self,
        endpoints: Endpoints,
        token: Token | None,
        timeout_seconds: float,
        tls: Tls = Tls(),  # noqa: B008 - frozen
    ) -> None:
        """Know where to ask; nothing is sent yet.

        Args:
            endpoints: The URLs.
            token: Read again before every request that carries it.
            timeout_seconds: The whole time that one exchange may take.
            tls: Whom to trust, and what to show who we are.
        """
        self._endpoints = endpoints
        self._token = token
        self._timeout_seconds = timeout_seconds
        self._tls = tls

    def within(self, seconds: float) -> "ControlService":
        """The same, whose exchanges take no longer than this either."""
        timeout = min(self._timeout_seconds, seconds)
        return ControlService(self._endpoints, self._token, timeout, self._tls)

    def evaluate(self, payload: dict[str, str]) -> Answer | Failure:
        """Ask the control service how it would route a thread.

        Args:
            payload: The thread and the cohort, sent as JSON.
        """
        base = self._endpoints.control_base_url
        if base is None or self._token is None:
            raise ValueError("a probe needs the control base URL and a token")
        return self._exchange("POST", below(base, EVALUATE_PATH), MOST_RESPONSE_BYTES, payload)

    def routing_status(self) -> Answer | Failure:
        """Ask the control service which percents are live."""
        base = self._endpoints.control_base_url
        if base is None or self._token is None:
            raise ValueError("the routing status needs the control base URL and a token")
        return self._exchange("GET", below(base, ROUTING_STATUS_PATH), MOST_RESPONSE_BYTES)

    def metrics(self) -> Answer | Failure | None:
        """Read the runtime's metrics, up to 1 MiB; None where their URL is not configured."""
        url = self._endpoints.runtime_metrics_url
        return None if url is None else self._exchange("GET", url, MOST_RESPONSE_BYTES)

    def snapshot(self, kind: SnapshotKind) -> bytes | str | None:
        """Read one snapshot.

        Returns:
            The body, or a sentence that says why there is none, or None where its URL is not
            configured.
        """
        url = self._endpoints.snapshot_url(kind)
        if url is None:
            return None
        answer = self._exchange("GET", url, MOST_SNAPSHOT_BYTES)
        if isinstance(answer, Failure):
            return f"{shown_url(url)}: {answer.message}"
        problem = _snapshot_problem(answer)
        return answer.body if problem is None else f"{shown_url(url)}: {problem}"

    def _exchange(
        self, method: str, url: str, most_bytes: int, payload: dict[str, str] | None = None
    ) -> Answer | Failure:
        from canary_pipeline.outside.http import exchange  # noqa: PLC0415 - imports requests

        try:
            bearer = self._bearer_for(url)
        except TokenUnavailableError as error:
            return Failure("token_unavailable", str(error))
        return exchange(
            method,
            url,
            bearer=bearer,
            payload=payload,
            most_bytes=most_bytes,
            timeout_seconds=self._timeout_seconds,
            tls=self._tls,
        )

    def _bearer_for(self, url: str) -> str | None:
        """The token, for the control service's own origin and nobody else."""
        base = self._endpoints.control_base_url
        if self._token is None or base is None or origin(url) != origin(base):
            return None
        return self._token.read()


def below(base: str, path: str) -> str:
    """The URL of a path below a base URL; a query of the base is kept."""
    head, mark, query = base.partition("?")
    return f"{head.rstrip('/')}{path}{mark}{query}"


def _snapshot_problem(answer: Answer) -> str | None:
    if not HTTP_OK <= answer.status < HTTP_OK + 100:
        return f"answered {answer.status}" + (f" to {answer.location}" if answer.location else "")
    if not answer.complete:
        return f"is longer than {MOST_SNAPSHOT_BYTES} bytes"
    try:
        answer.json()
    except ValueError:
        return answer.note or "answered something that is not JSON"
    return None
