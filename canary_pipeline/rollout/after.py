"""The gate of an environment that comes after another: the other one's newest decision."""

from canary_pipeline.model.commit import tested
from canary_pipeline.model.decision import decide
from canary_pipeline.reports.decided import written_decision
from canary_pipeline.reports.history import newest_rollout
from canary_pipeline.rollout.checkout import checkout_now
from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.logged_command import Ending
from canary_pipeline.store.folder import Evidence, NotARolloutError

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
            where = evidence.folder if evidence else f"no folder of {environment}"
            log.write(f"newest rollout: {where}\n".encode())
            problem = _problem(environment, evidence, context)
        except (NotARolloutError, OSError, ValueError) as error:
            problem = f"the newest rollout of {environment} cannot be read: {error}"
        log.write(f"{problem or 'allow, at this commit'}\n".encode())
    if problem is None and log.error is not None:
        return Ending(None, "log_not_written", f"its log could not be written: {log.error}")
    return Ending(None, NOT_ALLOWED, problem) if problem else Ending(None)


def _problem(environment: str, evidence: Evidence | None, context: Context) -> str | None:
    if evidence is None:
        return f"{environment} has not been rolled out to yet"
    word, record = written_decision(evidence), evidence.verified_record()
    if record.header.environment != environment:
        return f"{evidence.folder} is a rollout of {record.header.environment}"
    said = f"the newest rollout of {environment}, {evidence.folder.name},"
    reasons = decide(record).reasons
    if word != "allow" or reasons:
        why = f": {reasons[0].text}" if reasons else ""
        return f"{said} is not allowed ({word or 'no decision'}{why})"
    here = checkout_now(context.plan, context.evidence.folder)
    if here.commit is None or here.dirty is not False:
        return f"this checkout is at {here.commit or 'no commit'}, dirty: {here.dirty}"
    if tested(record).clean_commit != here.commit:
        return f"{said} was allowed at {tested(record)}, and this checkout is at {here.commit}"
    return None
