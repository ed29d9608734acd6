"""Golden decisions of each schema: folders that must verify for ever, byte for byte as they are.

`python -m canary_pipeline_tests.golden.decided` adds those of a new schema. Those that are there
stay: if one verifies no more, the derivation of its schema has changed, which must never be.
"""

import os
import shutil
import subprocess
from pathlib import Path

from canary_pipeline_tests.conftest import TOKEN
from canary_pipeline_tests.decided_folders import Rollouts
from canary_pipeline_tests.fake_staging import FakeStaging, answer, send
from canary_pipeline_tests.golden.scenarios import NEUTRAL
from canary_pipeline_tests.live_staging import APPLY_VARIABLE, FAKE_APPLY, let_apply

DECIDED = Path(__file__).parent / "decided"
"""By schema, a folder a rollout, and who may have signed them."""

SIGNERS = "allowed_signers"

WATCHED = {
    "OA_STAGING_CANARY_LIMITS": "+mirror.failed_total<=0, +delivery.total_polls>=1",
    "OA_STAGING_CANARY_WATCH_SECONDS": "1",
}
APPLIED = {**WATCHED, APPLY_VARIABLE: FAKE_APPLY}
SOAKED = ("--cohort-soak-seconds", "2")


def make(root: Path) -> None:
    """Roll out, and keep what each rollout leaves, with the public half of the key."""
    with FakeStaging.serving(TOKEN) as staging:
        world = _world(staging)
        key = world.folder / "key"
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "golden", "-f", str(key)]
        subprocess.run(words, check=True)

        world.rollout("allow", *SOAKED, more={**APPLIED, **world.more_snapshots})
        staging.probes[25] = answer(500, {"error": {"code": "internal"}})
        world.rollout("block", *SOAKED, code=1, more=APPLIED)
        signed = {**WATCHED, "OA_STAGING_CANARY_SIGNING_KEY": str(key)}
        world.rollout("signed", *SOAKED, code=1, more=signed)
        staging.probes.clear()
        (world.checkout / "mended").write_text("")
        world.commit_all()
        world.command("resume", str(world.root / "signed"), more=signed)

        shutil.copytree(world.root, root)
        public = key.with_suffix(".pub").read_text()
        (root / SIGNERS).write_text(f'golden namespaces="canary-rollout" {public}')


def _world(staging: FakeStaging) -> Rollouts:
    """A staging that applies, whose metrics grow, and a checkout that names no machine."""
    os.environ["LOGNAME"] = "operator"
    world = Rollouts(NEUTRAL, staging)
    (world.checkout / ".gitignore").write_text("live.env\n")
    world.commit = world.commit_all()
    let_apply(staging, world.checkout)
    polls = iter(range(10**6))
    staging.snapshots["/metrics"] = lambda handler: send(
        handler,
        200,
        {"mirror": {"failed_total": 0}, "delivery": {"total_polls": next(polls)}},
    )
    return world


if __name__ == "__main__":
    NEUTRAL.mkdir()  # refuses to touch what is somebody else's
    try:
        make(DECIDED / "schema-1")
    finally:
        shutil.rmtree(NEUTRAL)
