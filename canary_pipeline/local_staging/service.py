"""The stand-in's HTTP service: what a rollout and the gates ask of staging."""

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from canary_pipeline.local_staging.deployment import Deployment, DeploymentFailedError
from canary_pipeline.local_staging.faults import FAULT_PERCENT
from canary_pipeline.local_staging.routing import VARIABLES, RoutingSettings
from canary_pipeline.local_staging.stream import StaleCursorError, TopicStream
from canary_pipeline.local_staging.tokens import Issuer, TokenRefusedError
from canary_pipeline.local_staging.traffic import Traffic

MOST_MESSAGES = 500
DRIFT_SECONDS = 1
WELL_SECONDS = 0.9
"""How long all is well after a probe: enough for a first look, and over at one a second later."""

DIP_SECONDS = 2
HANGING_COHORTS = {str(percent) for percent in range(10, 101)}


@dataclass
class Staging:
    """The state behind the service.

    Attributes:
        traffic: What the runtime counts without being asked.
        fault: The way in which it misbehaves, or None.
        maintenance: Whether every control endpoint answers 503 with an HTML page.
        counts: What the metrics count beside the traffic.
        readers: Connections that polled before; kept only for the fault that needs them.
        deployment: What gives the service new variables.
        first: When something happened first, which a fault follows upon, by `time.monotonic`.
    """

    issuer: Issuer
    routing: RoutingSettings
    stream: TopicStream
    traffic: Traffic
    fault: str | None = None
    maintenance: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    readers: set[object] = field(default_factory=set)
    deployment: Deployment = field(default_factory=Deployment)
    first: dict[str, float] = field(default_factory=dict)

    @property
    def live(self) -> RoutingSettings:
        """The routing at this moment."""
        if self.routing.user_percent == FAULT_PERCENT and self._loses_canary():
            return replace(self.routing, user_percent=0, autopilot_percent=0)
        return self.routing

    def _loses_canary(self) -> bool:
        if self.fault == "drift":
            return self.seconds_since("a look") > DRIFT_SECONDS
        if self.fault != "dip-at-25" or "probe" not in self.first:
            return False
        return WELL_SECONDS < self.seconds_since("probe") < WELL_SECONDS + DIP_SECONDS

    def seconds_since(self, what: str) -> float:
        """How long ago something happened first; it happens now if it never did."""
        now = time.monotonic()
        return now - self.first.setdefault(what, now)

    def session_user(self, request: Request) -> str:
        """The user whose session token a request carries.

        Raises:
            RefusedError: When there is none.
        """
        try:
            claims = self.issuer.claims(request.headers.get("Authorization"), "session")
        except TokenRefusedError as error:
            self.counts[error.kind] += 1
            raise RefusedError(401, "unauthorized", "A valid session token is needed.") from None
        return str(claims["sub"])

    def check_topic(self, request: Request, topic: str) -> None:
        """Make sure that a request's sync token has this topic in its scope.

        Raises:
            RefusedError: When it has not.
        """
        if self.fault == "open-door":
            return
        try:
            claims = self.issuer.claims(request.headers.get("Authorization"), "sync")
        except TokenRefusedError as error:
            self.counts[error.kind] += 1
            raise RefusedError(401, error.kind, "A valid sync token is needed.") from None
        if topic not in claims.get("topics", []):
            self.counts["forbidden"] += 1
            raise RefusedError(403, "forbidden", "The token's scope does not hold this topic.")


class RefusedError(Exception):
    """A request is answered with an error."""

    def __init__(
        self, status: int, code: str, message: str, errors: dict[str, list[str]] | None = None
    ) -> None:
        """Say how, in the words of the service's error envelope."""
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {
            "message": message,
            "error": {"code": code, "message": message},
        }
        if errors:
            self.body["errors"] = errors


def _refused(_request: Request, error: Exception) -> Response:
    if not isinstance(error, RefusedError):
        raise error
    return JSONResponse(error.body, error.status)


def service(staging: Staging) -> Starlette:
    """The application that serves this staging."""
    control, runtime = "/api/v1/control", "/internal/v1/spacetime"
    routes = [
        Route("/health", health),
        Route(f"{control}/runtime-routing/evaluate", evaluate, methods=["POST"]),
        Route(f"{control}/runtime-routing/status", routing_status),
        Route(f"{control}/status", control_status),
        Route(f"{runtime}/sync/metrics", sync_metrics),
        Route(f"{runtime}/topics/{{topic}}/messages", publish, methods=["POST"]),
        Route(f"{runtime}/topics/{{topic}}/messages", poll),
        Route("/deployment/variables", deploy, methods=["PUT"]),
    ]
    app = Starlette(routes=routes, exception_handlers={RefusedError: _refused})
    app.state.staging = staging
    return app


def _staging(request: Request) -> Staging:
    staging: Staging = request.app.state.staging
    return staging


def _maintenance_page(staging: Staging) -> Response | None:
    page = "<!doctype html><title>Maintenance</title><h1>Back in a moment</h1>"
    return HTMLResponse(page, 503) if staging.maintenance else None


async def health(request: Request) -> Response:
    """Whether the service is well."""
    healthy = _staging(request).fault != "unhealthy"
    return JSONResponse({"status": "ok" if healthy else "failing"}, 200 if healthy else 503)


async def evaluate(request: Request) -> Response:
    """Who would serve a thread of the token's own user."""
    staging = _staging(request)
    if page := _maintenance_page(staging):
        return page
    user = staging.session_user(request)
    body = await _json_object(request)
    thread = body.get("thread_id")
    if not isinstance(thread, str) or not thread.strip():
        errors = {"thread_id": ["can't be blank"]}
        raise RefusedError(422, "invalid_request", "The request is invalid.", errors)
    if body.get("user_id") not in (None, user):
        staging.counts["forbidden"] += 1
        raise RefusedError(403, "forbidden", "Another user's routing is not yours to evaluate.")
    await _misbehave(staging, request, thread)
    autopilot = body.get("autopilot_id")
    decision = staging.live.evaluate(thread, user, autopilot if isinstance(autopilot, str) else "")
    return JSONResponse({"data": decision})


async def _misbehave(staging: Staging, request: Request, thread: str) -> None:
    cohort = thread.removeprefix("staging-canary-thread-")
    if cohort == str(FAULT_PERCENT):
        died = staging.seconds_since("probe") > WELL_SECONDS
        if staging.fault == "control-dies-at-25" and died:
            raise RefusedError(503, "unavailable", "The control service is gone.")
        if staging.fault == "error-at-25":
            raise RefusedError(500, "internal_error", "Routing could not be evaluated.")
    if staging.fault == "hang" and cohort in HANGING_COHORTS:
        while (await request.receive())["type"] != "http.disconnect":
            pass


async def _json_object(request: Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise RefusedError(422, "invalid_request", "The body must be a JSON object.")
    return body


async def routing_status(request: Request) -> Response:
    """Which percents are live."""
    staging = _staging(request)
    if page := _maintenance_page(staging):
        return page
    staging.session_user(request)
    return JSONResponse({"data": staging.live.status()})


async def control_status(request: Request) -> Response:
    """What the control service says of itself."""
    staging = _staging(request)
    if page := _maintenance_page(staging):
        return page
    user = staging.session_user(request)
    data = {
        "service": "control",
        "authProvider": "local",
        "activeOrgId": "org_local",
        "memberships": [{"orgId": "org_local", "userId": user, "role": "member"}],
        "compatibility": {"minimum": 1, "current": 1},
        "routeSplit": {"enabled": True},
        "runtimeRouting": staging.live.status(),
        "runtimeRouteOwnership": {"default": "control_service"},
    }
    return JSONResponse({"data": data})


async def sync_metrics(request: Request) -> Response:
    """What the runtime counted since it started."""
    staging = _staging(request)
    if staging.fault == "metrics-vanish-at-25" and staging.traffic.is_ill:
        raise RefusedError(503, "unavailable", "There are no metrics.")
    return JSONResponse(staging.traffic.metrics(staging.fault, staging.counts))


async def deploy(request: Request) -> Response:
    """Give the service new canary variables; it restarts with them."""
    staging = _staging(request)
    staging.session_user(request)
    variables = await _json_object(request)
    if set(variables) != set(VARIABLES) or not all(isinstance(v, str) for v in variables.values()):
        message = f"The body must give a text for each of {', '.join(VARIABLES)}."
        raise RefusedError(422, "invalid_request", message)
    try:
        await staging.deployment.apply(variables)
    except DeploymentFailedError as error:
        raise RefusedError(500, "deployment_failed", str(error)) from None
    return JSONResponse({"data": variables}, 202)


async def publish(request: Request) -> Response:
    """Add a message to a topic; publishing it again changes nothing."""
    staging, topic = _staging(request), str(request.path_params["topic"])
    staging.check_topic(request, topic)
    body = await _json_object(request)
    message_id, payload = body.get("message_id"), body.get("payload")
    if not isinstance(message_id, str) or not isinstance(payload, str) or not message_id:
        raise RefusedError(422, "invalid_request", "message_id and payload must be text.")
    published = staging.stream.publish(topic, message_id, payload)
    staging.counts["duplicates" if published.duplicate else "published"] += 1
    return JSONResponse({"data": {"sequence": published.sequence}})


async def poll(request: Request) -> Response:
    """The messages of a topic that follow a cursor."""
    staging, topic = _staging(request), str(request.path_params["topic"])
    staging.check_topic(request, topic)
    after, limit = _whole(request, "after", 0), _whole(request, "limit", MOST_MESSAGES)
    staging.counts["polls"] += 1
    try:
        messages = staging.stream.poll(topic, after, min(limit, MOST_MESSAGES))
    except StaleCursorError:
        staging.counts["stale_cursors"] += 1
        raise RefusedError(409, "stale_cursor", "The cursor lies beyond the topic.") from None
    if staging.fault == "broken-replay" and _is_resuming(staging, request, after):
        messages = messages[1:]
    staging.counts["served"] += len(messages)
    return JSONResponse({"data": {"messages": [vars(message) for message in messages]}})


def _is_resuming(staging: Staging, request: Request, after: int) -> bool:
    """Whether a reader comes back with a cursor on a connection that has not polled before."""
    is_new = request.client not in staging.readers
    staging.readers.add(request.client)
    return is_new and after > 0


def _whole(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 12:  # noqa: PLR2004 - a cursor
        raise RefusedError(422, "invalid_request", f"{name} must be a whole number.")
    return int(text)
