"""A look at staging while a cohort soaks: what its numbers, its routing and its probe say now."""

from dataclasses import replace

from canary_pipeline.model.health import Judgement
from canary_pipeline.model.limits import numbers_of, numbers_to_keep
from canary_pipeline.model.looks import HTTP_SUCCESS, Look, Status, Watch, problem_of
from canary_pipeline.model.moment import rfc3339
from canary_pipeline.model.rows import Routing
from canary_pipeline.model.watching import watch_of
from canary_pipeline.outside.answers import Answer, Failure
from canary_pipeline.rollout.context import Cohort, Context
from canary_pipeline.rollout.live.routing import routing_of


def take_look(cohort: Cohort, judgement: Judgement, soak: int, elapsed: float) -> Look:
    """Ask whatever is watched, once.

    Args:
        cohort: The cohort that soaks.
        judgement: What is known of the soak so far.
        soak: Which soak of the cohort it is.
        elapsed: Seconds since its beginning.
    """
    context, watch = cohort.context, judgement.watch
    at = rfc3339(context.clock.now())
    metrics, numbers = _metrics(context, watch)
    routing, live = _routing(context) if watch.wanted is not None else (None, None)
    return Look(
        soak=soak,
        number=0,
        at=at,
        elapsed_seconds=round(elapsed, 3),
        metrics=metrics,
        numbers=numbers,
        routing=routing,
        live=live,
        evaluate=_evaluate(cohort) if watch.probes_live and judgement.last else None,
        attempt=context.attempt,
        run_id=context.run_id,
    )


def sick_before(cohort: Cohort) -> str | None:
    """Why limits already do not hold before the first cohort is applied; None where they do."""
    watch = watch_of(cohort.plan, cohort.percent)
    applied = cohort.context.evidence.header().live_before is not None
    if watch is None or not watch.limits or applied:
        return None
    bare = replace(watch, wanted=None, probes_live=False)
    look = take_look(cohort, Judgement(bare), 1, 0.0)
    problem = problem_of(bare, look)
    return None if problem is None else f"nothing was applied: {problem.text}"


def _metrics(context: Context, watch: Watch) -> tuple[Status | None, dict[str, float] | None]:
    answer = context.control.metrics()
    if not isinstance(answer, Answer):
        return _status(answer), None
    value = answer.json_object() if answer.status in HTTP_SUCCESS else None
    if value is None:
        return answer.status, None
    numbers = numbers_of(value, [limit.name for limit in watch.limits])
    return answer.status, numbers_to_keep(numbers, watch.limits)


def _routing(context: Context) -> tuple[Status | None, Routing | None]:
    answer = context.control.routing_status()
    live = routing_of(answer, "") if isinstance(answer, Answer) else None
    if live is None:
        return _status(answer), None
    return _status(answer), Routing(**{name: getattr(live, name) for name in Routing.model_fields})


def _evaluate(cohort: Cohort) -> Status | None:
    return _status(cohort.context.control.evaluate(cohort.plan.probe_payload(cohort.percent)))


def _status(answer: Answer | Failure | None) -> Status | None:
    if answer is None:
        return None
    return answer.status if isinstance(answer, Answer) else answer.kind
