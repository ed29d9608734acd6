"""Run a rollout's job from the command line, and answer with an exit code."""

import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from canary_pipeline import forkserver
from canary_pipeline.commands.dagster_home import use_home
from canary_pipeline.commands.exits import CommandError, Exit
from canary_pipeline.model.decision import decide
from canary_pipeline.model.plan import Environment
from canary_pipeline.outside.claim import Claim, ClaimUnusableError, EnvironmentTakenError
from canary_pipeline.outside.clock import SystemClock
from canary_pipeline.reports.rollback_words import rollback_words
from canary_pipeline.rollout import attempts
from canary_pipeline.rollout.restoring import restore, settle_stopped
from canary_pipeline.settings import Settings
from canary_pipeline.store.folder import SUMMARY, Evidence

if TYPE_CHECKING:
    import dagster as dg


def roll_out(settings: Settings, *, demonstration: bool = False) -> Exit:
    """Start a new rollout and follow it to its decision.

    Args:
        settings: What to do.
        demonstration: Whether to show the whole summary, of a staging that is gone afterwards.

    Raises:
        CommandError: When it cannot start.
    """
    plan = settings.plan
    with _holding(plan.environment):
        evidence = _opened(settings)
        print(f"rollout folder: {evidence.folder}", flush=True)
        code = _run_job(evidence, plan.environment, skip_gates=plan.skip_gates)
    if demonstration:
        print(f"\n{evidence.read_text(SUMMARY) or ''}", end="")
    elif code != Exit.ALLOW and not plan.skip_gates:
        print(f"once mended, go on with: canary-rollout resume {shlex.quote(str(evidence.folder))}")
    return code


def _opened(settings: Settings) -> Evidence:
    try:
        return attempts.open_rollout(settings.plan, settings.output_dir, SystemClock())
    except attempts.FolderTakenError as error:
        raise CommandError(Exit.BAD_INPUT, f"--output-dir: {error}") from None
    except OSError as error:
        where = settings.output_dir or attempts.OUTPUT_ROOT.absolute()
        message = f"the rollout's folder cannot be written: {error.strerror}: {where}"
        raise CommandError(Exit.NO_DECISION, message) from None


def go_on(evidence: Evidence, environment: Environment) -> Exit:
    """Continue a rollout that was killed, aborted or blocked, and follow it to its decision.

    Raises:
        CommandError: When it cannot go on.
    """
    with _holding(environment):
        header = evidence.header()
        decided = attempts.written_decision(evidence)
        if decided == "allow" and decide(evidence.verified_record()).allowed:
            print("this rollout was decided before; nothing is left to do")
            return _answer(evidence, aborted=False, succeeded=True)
        print(f"rollout folder: {evidence.folder}", flush=True)
        return _run_job(evidence, environment, skip_gates=header.skip_gates)


def take_back(evidence: Evidence, environment: Environment) -> Exit:
    """Restore what was live before a rollout, because somebody asks for it.

    Raises:
        CommandError: When it cannot be tried.
    """
    if evidence.header().live_before is None:
        print("nothing of this rollout is live: there is nothing to roll back")
        return Exit.ALLOW
    with _holding(environment):
        row = restore(evidence, environment, lambda line: print(line, flush=True))
    if row.status != "passed":
        print(rollback_words(evidence.record(), evidence.folder))
    print(f"summary: {evidence.folder / SUMMARY}")
    return Exit.ALLOW if row.status == "passed" else Exit.BLOCK


@contextmanager
def _holding(environment: Environment) -> Iterator[None]:
    holder = {"pid": str(os.getpid()), "started by": "canary-rollout"}
    try:
        with Claim(environment.name, holder):
            yield
    except (EnvironmentTakenError, ClaimUnusableError) as error:
        raise CommandError(Exit.NO_DECISION, str(error)) from None


def _run_job(evidence: Evidence, environment: Environment, *, skip_gates: bool) -> Exit:
    try:
        return _answer(evidence, *_executed(evidence, environment, skip_gates=skip_gates))
    except KeyboardInterrupt:
        why = "interrupted outside its steps"
        attempts.abandon(evidence, why, SystemClock())
        _settle(evidence, environment, why)
        return _answer(evidence, aborted=True, succeeded=False)
    except Exception as error:
        why = f"could not be run: {type(error).__name__}"
        attempts.abandon(evidence, why, SystemClock())
        _settle(evidence, environment, why)
        raise


def _settle(evidence: Evidence, environment: Environment, why: str) -> None:
    run_ids = evidence.header().run_ids
    settle_stopped(evidence, environment, run_ids[-1] if run_ids else "", why)


def _executed(
    evidence: Evidence, environment: Environment, *, skip_gates: bool
) -> tuple[bool, bool]:
    """Execute the job; return whether it was aborted, and whether its run succeeded."""
    os.environ[attempts.FOLDER_VARIABLE] = str(evidence.folder)
    with _quiet():
        return _executed_quietly(evidence, environment, skip_gates=skip_gates)


def _executed_quietly(
    evidence: Evidence, environment: Environment, *, skip_gates: bool
) -> tuple[bool, bool]:
    forkserver.start_early()
    use_home()
    import dagster as dg  # noqa: PLC0415 - while the forkserver imports it too

    from canary_pipeline.orchestration.runs import ROLLOUT_TAG  # noqa: PLC0415
    from canary_pipeline.reports.progress import shown  # noqa: PLC0415

    job = dg.build_reconstructable_job(
        "canary_pipeline.commands.run",
        "job_definition",
        reconstructable_args=(environment.job_name,),
    )
    with dg.DagsterInstance.get() as instance, shown(evidence, sys.stdout):
        result = dg.execute_job(
            job,
            instance,
            run_config=_run_config(skip_gates=skip_gates),
            tags={ROLLOUT_TAG: str(evidence.folder)},
        )
    ours = [item for item in evidence.header().attempts if item.run_id == result.run_id]
    aborted = not ours or ours[-1].outcome == "aborted"
    return aborted, result.success


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Dagster's processes print on stderr to themselves, unless something breaks.

    Everything in it is in Dagster's event log too; a terminal is for the progress.
    """
    with tempfile.TemporaryFile() as kept:
        stderr = os.dup(sys.stderr.fileno())
        os.dup2(kept.fileno(), sys.stderr.fileno())
        try:
            yield
        except Exception:
            kept.seek(0)
            os.write(stderr, kept.read())
            raise
        finally:
            os.dup2(stderr, sys.stderr.fileno())
            os.close(stderr)


def _run_config(*, skip_gates: bool) -> dict[str, object]:
    return {
        "resources": {"rollout": {"config": {"skip_gates": skip_gates}}},
        # The terminal belongs to the progress; the log book is in Dagster.
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
    }


def job_definition(name: str) -> "dg.JobDefinition":
    """The job of that name, as processes that run its steps find it."""
    from canary_pipeline.definitions import defs  # noqa: PLC0415 - the commands set it up first

    return defs.resolve_job_def(name)


def _answer(evidence: Evidence, aborted: bool, succeeded: bool) -> Exit:  # noqa: FBT001
    """Print the decision, its reasons and where it is written; return the exit code."""
    decided = attempts.written_decision(evidence)
    if decided is None:
        print(f"no decision was written; evidence so far: {evidence.folder}")
        return Exit.NO_DECISION
    record = evidence.verified_record()
    for warning in record.warnings:
        print(f"warning: {warning.step}: {warning.message}")
    for reason in decide(record).reasons:
        print(f"blocks: {reason.text} (evidence: {evidence.folder / reason.evidence})")
    told = rollback_words(record, evidence.folder)
    if told and decided == "block":
        print(f"rollback: {told}")
    print(f"summary: {evidence.folder / SUMMARY}")
    print(f"Decision: {decided}", flush=True)
    if aborted:
        return Exit.NO_DECISION
    if decided == "allow":
        return Exit.ALLOW if succeeded else Exit.NO_DECISION
    return Exit.BLOCK


def find_rollout(name: str) -> Evidence:
    """The rollout of a folder or a Dagster run id.

    Raises:
        CommandError: When there is none.
    """
    folder = Path(name).absolute()
    if folder.is_dir():
        return Evidence(folder)
    use_home()
    import dagster as dg  # noqa: PLC0415 - not needed for a folder

    from canary_pipeline.orchestration.runs import ROLLOUT_TAG  # noqa: PLC0415

    with dg.DagsterInstance.get() as instance:
        run = instance.get_run_by_id(name)
    tag = run.tags.get(ROLLOUT_TAG) if run else None
    if tag is None:
        message = f"{name!r} is neither a rollout's folder nor the run id of one"
        raise CommandError(Exit.BAD_INPUT, message)
    return Evidence(Path(tag))
