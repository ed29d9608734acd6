"""`canary-rollout`, with the core running the steps instead of Dagster.

`python -m canary_pipeline_tests.core_alone run …` takes the same arguments, writes the same files
and answers with the same exit codes, in a tenth of the time; Dagster is not imported.
"""

import getpass
import os
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

from canary_pipeline.commands import run
from canary_pipeline.commands.main import main
from canary_pipeline.model.environment import Environment
from canary_pipeline.outside.stop import Signals, StoppedError
from canary_pipeline.planning import Settings
from canary_pipeline.rollout.conclusion import conclude_run
from canary_pipeline.rollout.enter import enter_rollout
from canary_pipeline.rollout.run import run_phases
from canary_pipeline.rollout.steps import steps_of
from canary_pipeline.store.folder import Evidence


class CoreAlone:
    """Runs the steps without Dagster."""

    def prepare(self) -> None:
        """Nothing is needed."""

    def execute(
        self, evidence: Evidence, settings: Settings, _environment: Environment, signals: Signals
    ) -> bool:
        """Run every step in this process."""
        run_id = f"core-{uuid4()}"
        context = enter_rollout(settings, evidence, run_id, f"canary-rollout, {_user()}")
        steps = steps_of(
            context.plan.gates,
            context.plan.cohorts,
            gate_groups=context.plan.gate_groups,
            changes_staging=context.plan.changes_staging,
        )
        broken = "a step did not end"
        try:
            working = replace(context, check_stop=signals.stop.check)
            with suppress(StoppedError):
                run_phases(steps.phases, working, settings.parallel_gates)
        except Exception as error:
            broken = f"a step failed ({type(error).__name__})"
            raise
        finally:
            stopped = signals.stop.why
            signals.obey()
            concluding = replace(context, check_stop=signals.check_again)
            decision, _ = conclude_run(concluding, stopped, broken)
        return decision.allowed


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # not every user has an entry in /etc/passwd
        return f"uid {os.getuid()}"


if __name__ == "__main__":
    run.ENGINE = CoreAlone()
    main()
