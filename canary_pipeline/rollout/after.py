"""The gate of an environment that comes after another: the other one's newest decision."""

import os

from canary_pipeline.environments import chosen
from canary_pipeline.reports.newest import bring_last, verify_last
from canary_pipeline.reports.verification import Demands, Verification
from canary_pipeline.rollout.checkout import checkout_now
from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.logged_command import Ending
from canary_pipeline.store.elsewhere import elsewhere
from canary_pipeline.store.rollouts import known_folders

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
            found = _newest(environment, context)
            folder = found.folder if found else "none"
            log.write(f"newest rollout of {environment}: {folder}\n".encode())
            problem = _problem(environment, found)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody knows of an allow
            problem = f"the newest rollout of {environment} cannot be judged: {error}"
        log.write(f"{problem or 'allow, at the commit of this checkout'}\n".encode())
    if problem is not None:
        return Ending(None, NOT_ALLOWED, problem)
    if log.error is not None:
        return Ending(None, "log_not_written", f"its log could not be written: {log.error}")
    return Ending(None)


def _newest(environment: str, context: Context) -> Verification | None:
    """The newest decision of any host, asked for the commit of this checkout."""
    here = checkout_now(context.plan, context.evidence.folder)
    if here.commit is None or here.dirty is not False:
        changes = ", with uncommitted changes" if here.commit else ""
        message = f"this checkout is at {here.commit or 'no commit that is known'}{changes}"
        raise ValueError(message)
    shared = elsewhere(chosen(environment, os.environ, "after"), os.environ)
    if shared is not None:
        bring_last(shared)
    asked = Demands(commit=here.commit, environment=environment)
    return verify_last(known_folders(environment), asked, context.clock.now())


def _problem(environment: str, found: Verification | None) -> str | None:
    if found is None:
        return f"{environment} has not been rolled out to yet"
    if found.answer == "allow":
        return None
    why = "; ".join(found.reasons) or found.answer
    return f"the newest rollout of {environment}, {found.folder.name}, is no allow: {why}"
