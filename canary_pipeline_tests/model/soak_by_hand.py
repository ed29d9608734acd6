"""Looks made by hand, and soaks that a fake clock drives through the real judge."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from canary_pipeline.model.health import Judgement
from canary_pipeline.model.limits import parse_limits
from canary_pipeline.model.looks import Look, Watch
from canary_pipeline.model.rows import Routing
from canary_pipeline.model.soaks import next_look_at

FAILED = "mirror.failed_total"
LAG = "delivery.max_replay_lag"
POLLS = "delivery.total_polls"
SERVED = "mirror.published_total"
LIMITS = f"+{FAILED}<=0, {LAG}<=500, +{POLLS}>=1"
WANTED = Routing(user_percent=25, autopilot_percent=25, shadow_enabled=True, shadow_sample_rate=1.0)
NOTHING_LIVE = WANTED.model_copy(update={"user_percent": 0, "autopilot_percent": 0})
WATCH = Watch(parse_limits(LIMITS), WANTED, True, 900, 15)  # noqa: FBT003 - probes are live
WITHOUT_LIMITS = replace(WATCH, limits=())

USUAL: Mapping[str, float] = {}
LOST: dict[str, Any] = {"metrics": "timeout", "numbers": None}
BAD_PERCENT: dict[str, Any] = {"live": NOTHING_LIVE}
BAD_PROBE: dict[str, Any] = {"evaluate": 503}


def look(
    number: int, at: float, numbers: Mapping[str, float] | None = USUAL, **changes: Any
) -> Look:
    """A good look, but for what is changed; of the numbers, those that are given."""
    usual = {FAILED: 0.0, LAG: 3.0, POLLS: at, SERVED: at * 2}
    values: dict[str, Any] = {
        "soak": 1, "number": number, "elapsed_seconds": float(at), "attempt": 1, "run_id": "r",
        "at": f"2026-02-25T08:{int(at) // 60 % 60:02}:{int(at) % 60:02}.000Z",
        "metrics": 200, "numbers": None if numbers is None else {**usual, **numbers},
        "routing": 200, "live": WANTED, "evaluate": 200,
    }  # fmt: skip
    return Look(**(values | changes))


def soak(
    watch: Watch, take: Callable[[float], Look], late: float = 0
) -> tuple[Judgement, list[Look]]:
    """Take the looks that a soak takes, each a little late, until it is decided.

    Args:
        watch: What is enforced.
        take: Looks at so many seconds.
        late: The seconds from when a look is due to when it is taken.
    """
    judgement, zero, looks = Judgement(watch), 0.0, []
    while judgement.verdict is None:
        now = zero + next_look_at(judgement) + late
        taken = take(now).model_copy(update={"elapsed_seconds": now - zero})
        numbered = judgement.numbered(taken)
        zero = now if numbered.number == 1 else zero
        judgement = judgement.after(numbered)
        looks.append(numbered)
    return judgement, looks
