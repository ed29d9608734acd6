"""A look at staging while a cohort soaks: what its numbers, its routing and its probe say now."""

from dataclasses import replace

from canary_pipeline.model.health import Judgement
from canary_pipeline.model.limits import numbers_of, numbers_to_keep, unknown_name
from canary_pipeline.model.looks import HTTP_SUCCESS, Look, LookProblem, Status, Watch, problem_of
from canary_pipeline.model.moment import rfc3339
from canary_pipeline.model.rows import Routing
from canary_pipeline.model.watching import limits_of, watch_of
from canary_pipeline.outside.answers import HTTP_OK, Answer, Failure
from canary_pipeline.outside.control_service import ControlService
from canary_pipeline.rollout.context import Cohort, Context
from canary_pipeline.rollout.live.routing import routing_of
from canary_pipeline.store import layout

LOOK_AGAIN_SECONDS = 1.0


SHARE_OF_INTERVAL = 0.5
"""How much of an interval one answer may take: what hangs must not keep a soak from its looks."""


def take_look(cohort: Cohort, judgement: Judgement, soak: int, elapsed: float) -> Look:
    """Ask whatever is watched, once.

    Args:
        cohort: The cohort that soaks.
        judgement: What is known of the soak so far.
        soak: Which soak of the cohort it is.
        elapsed: Seconds since its beginning.
    """
    context, watch = cohort.context, judgement.watch
    control = context.control.within(watch.interval_seconds * SHARE_OF_INTERVAL)
    at = rfc3339(context.clock.now())
    metrics, numbers = _metrics(control, watch)
    routing, live = _routing(control) if watch.wanted is not None else (None, None)
    is_asked = watch.probes_live and judgement.last is not None  # the probe is the first evaluate
    evaluate = control.evaluate(cohort.plan.probe_payload(cohort.percent)) if is_asked else None
    return Look(
        soak=soak,
        number=0,
        at=at,
        elapsed_seconds=round(elapsed, 3),
        metrics=metrics,
        numbers=numbers,
        routing=routing,
        live=live,
        evaluate=_status(evaluate),
        attempt=context.attempt,
        run_id=context.run_id,
    )


def sick_before(cohort: Cohort) -> LookProblem | None:
    """Why limits do not hold even before the first cohort is applied; None where they do.

    One good look is enough, and as patiently waited for as in a soak.
    """
    watch = watch_of(cohort.plan, cohort.percent)
    applied = cohort.context.evidence.header().live_before is not None
    if watch is None or not watch.limits or applied:
        return None
    bare, clock = replace(watch, wanted=None, probes_live=False), cohort.context.clock
    deadline = clock.monotonic() + bare.patience_seconds
    while problem := problem_of(bare, take_look(cohort, Judgement(bare), 1, 0.0)):
        cohort.context.check_stop()
        if clock.monotonic() >= deadline:
            return problem
        clock.sleep(LOOK_AGAIN_SECONDS)
    return None


def warn_of_unknown_names(context: Context) -> None:
    """Say which limited names the first snapshot of the metrics does not hold."""
    limits = limits_of(context.plan)
    kept = context.evidence.read_bytes(layout.snapshot("runtime_metrics", "before"))
    value = Answer(HTTP_OK, kept, complete=True).json_object()
    if value is None:  # where there is no snapshot, a warning has said so
        return
    numbers = numbers_of(value, [limit.name for limit in limits])
    for limit in limits:
        unknown = unknown_name([limit], numbers)
        if unknown is not None:
            context.warn("limits", f"{limit}: {unknown}")


def _metrics(
    control: ControlService, watch: Watch
) -> tuple[Status | None, dict[str, float] | None]:
    answer = control.metrics()
    if not isinstance(answer, Answer):
        return _status(answer), None
    value = answer.json_object() if answer.status in HTTP_SUCCESS else None
    if value is None:
        return answer.status, None
    numbers = numbers_of(value, [limit.name for limit in watch.limits])
    return answer.status, numbers_to_keep(numbers, watch.limits)


def _routing(control: ControlService) -> tuple[Status | None, Routing | None]:
    answer = control.routing_status()
    live = routing_of(answer, "") if isinstance(answer, Answer) else None
    if live is None:
        return _status(answer), None
    return _status(answer), Routing(**{name: getattr(live, name) for name in Routing.model_fields})


def _status(answer: Answer | Failure | None) -> Status | None:
    if answer is None:
        return None
    return answer.status if isinstance(answer, Answer) else answer.kind
