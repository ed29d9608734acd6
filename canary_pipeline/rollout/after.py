"""The gate of an environment that comes after another: the other one's newest decision."""

from canary_pipeline.reports.verification import Demands, verify
from canary_pipeline.rollout.checkout import checkout_now
from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.logged_command import Ending
from canary_pipeline.store.folder import Evidence
from canary_pipeline.store.rollouts import newest_rollout

NOT_ALLOWED = "not_allowed"


def judge_newest(environment: str, log_file: str, context: Context) -> Ending:
    """Pass if an environment's newest rollout was allowed at the commit of this checkout.

    Args:
        environment: The other environment.
        log_file: Where what was seen is kept, relative to the rollout's folder.
        context: This rollout. What cannot be read fails.
    """
    with context.evidence.open_log(log_file) as log:
        try:
            evidence = newest_rollout(environment)
            where = evidence.folder if evidence else "none"
            log.write(f"newest rollout of {environment}: {where}\n".encode())
            problem = _problem(environment, evidence, context)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody knows of an allow
            problem = f"the newest rollout of {environment} cannot be read: {error}"
        log.write(f"{problem or 'allow, at the commit of this checkout'}\n".encode())
    if problem is not None:
        return Ending(None, NOT_ALLOWED, problem)
    if log.error is not None:
        return Ending(None, "log_not_written", f"its log could not be written: {log.error}")
    return Ending(None)


def _problem(environment: str, evidence: Evidence | None, context: Context) -> str | None:
    if evidence is None:
        return f"{environment} has not been rolled out to yet"
    here = checkout_now(context.plan, context.evidence.folder)
    if here.commit is None or here.dirty is not False:
        changes = ", with uncommitted changes" if here.commit else ""
        return f"this checkout is at {here.commit or 'no commit that is known'}{changes}"
    asked = Demands(commit=here.commit, environment=environment)
    found = verify(evidence, asked, context.clock.now())
    if found.answer == "allow":
        return None
    why = "; ".join(found.reasons) or found.answer
    return f"the newest rollout of {environment}, {evidence.folder.name}, is no allow: {why}"
