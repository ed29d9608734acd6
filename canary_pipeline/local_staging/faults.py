"""The ways in which the stand-in can misbehave, so that people see what a rollout makes of it."""

from collections.abc import Mapping

VARIABLE = "LOCAL_STAGING_FAULT"

FAULT_PERCENT = 25
"""The canary percent that most faults begin at."""

FAULTS: Mapping[str, str] = {
    "error-at-25": "the control service answers 500 to the probe of cohort 25",
    "hang": "the control service never answers the probes of cohort 10 and later",
    "broken-replay": "a reader that resumes from its cursor misses a message",
    "lost-on-crash": "a message is acknowledged before it is on disk",
    "open-door": "topics are served to whoever asks, with any token or none",
    "unhealthy": "the service says of itself that it is not healthy",
    "apply-does-nothing": "new canary settings are accepted, and the service never gets them",
    "apply-fails": "new canary settings are refused from 25 % on",
    "apply-lands-late": "the service restarts with new canary settings only 3 s later",
    "drift": "a second after 25 % was seen live, the percents fall back to 0 by themselves",
    "dip-at-25": "a second after the probe of cohort 25 its percent is gone for two seconds",
    "control-dies-at-25": "a second after the probe of cohort 25 its next one is answered 503",
    "errors-at-25": "messages fail to be mirrored, and some are dropped, from 25 % on",
    "lag-at-25": "readers lag thousands of messages behind from 25 % on",
    "crash-loop-at-25": "the runtime restarts, and counts from 0, all the time from 25 % on",
    "metrics-vanish-at-25": "the runtime answers 503 for its metrics from 25 % on",
    "frozen-metrics": "the traffic stands still, and with it every number of the runtime's metrics",
}


def fault_in(variables: Mapping[str, str]) -> str | None:
    """The fault that these variables choose, or None.

    Raises:
        ValueError: When the name is unknown; the message lists those that are known.
    """
    name = variables.get(VARIABLE, "")
    if name and name not in FAULTS:
        message = f"{VARIABLE} is {name!r}; accepted: {', '.join(FAULTS)}"
        raise ValueError(message)
    return name or None
