"""What the gates check, each against a server of its own: `python -m …drills replay-resume`."""

import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import requests

from canary_pipeline.local_staging.faults import VARIABLE as FAULT_VARIABLE
from canary_pipeline.local_staging.faults import chosen_fault
from canary_pipeline.local_staging.stand_in import (
    issuer,
    server_process,
    start_server,
    stop_server,
    token_variables,
)
from canary_pipeline.local_staging.tokens import Issuer

TOPIC = "org:local:worker"
OTHER_TOPIC = "org:other:worker"
MESSAGES = 60
PAGE = 7
TIMEOUT_SECONDS = 10


class DrillFailedError(Exception):
    """Staging did not do what it must; the message says what was seen."""


@dataclass(frozen=True)
class Topic:
    """One topic of a serving stand-in, as a client with some token sees it."""

    base_url: str
    token: str | None
    name: str = TOPIC

    def publish(self, number: int) -> int:
        """Publish the message of this number; return its sequence."""
        answer = self.post({"message_id": f"m{number}", "payload": f"payload {number}"})
        answer.raise_for_status()
        sequence: int = answer.json()["data"]["sequence"]
        return sequence

    def post(self, message: Mapping[str, str]) -> requests.Response:
        """Send a message."""
        return requests.post(
            self.url(), json=message, headers=self.headers(), timeout=TIMEOUT_SECONDS
        )

    def get(self, after: int, limit: int = PAGE) -> requests.Response:
        """Ask for the messages that follow a cursor."""
        return requests.get(
            self.url(),
            params={"after": after, "limit": limit},
            headers=self.headers(),
            timeout=TIMEOUT_SECONDS,
        )

    def read(self, after: int = 0, page_size: int = PAGE) -> list[tuple[int, str]]:
        """Read page by page from a cursor to the end; return sequences and message ids."""
        seen: list[tuple[int, str]] = []
        while True:
            answer = self.get(after, page_size)
            answer.raise_for_status()
            page = answer.json()["data"]["messages"]
            if not page:
                return seen
            seen += [(message["sequence"], message["message_id"]) for message in page]
            after = seen[-1][0]

    def url(self) -> str:
        """Where the topic's messages are published and polled."""
        return f"{self.base_url}/internal/v1/spacetime/topics/{self.name}/messages"

    def headers(self) -> dict[str, str]:
        """What this client sends to be let in."""
        return {"Authorization": f"Bearer {self.token}"} if self.token is not None else {}


@dataclass(frozen=True)
class Bench:
    """A server of its own, and what a client needs to know of it."""

    base_url: str
    issuer: Issuer

    def topic(self) -> Topic:
        """The drill's topic with the right token."""
        return Topic(self.base_url, self.issuer.sync([TOPIC]))


def _variables() -> dict[str, str]:
    import os  # noqa: PLC0415 - the one place that looks at the process

    return {**os.environ, **token_variables(), FAULT_VARIABLE: chosen_fault() or ""}


@contextmanager
def bench() -> Iterator[Bench]:
    """A fresh server while the body runs."""
    variables = _variables()
    with (
        tempfile.TemporaryDirectory(prefix="local-staging-") as folder,
        server_process(Path(folder), variables) as (_, base_url),
    ):
        yield Bench(base_url, issuer(variables))


def expect(what: str, *, seen: object, wanted: object) -> None:
    """Say that something is as it must be.

    Raises:
        DrillFailedError: When it is not.
    """
    if seen != wanted:
        print(f"FAILED  {what}: expected {wanted}, saw {seen}", flush=True)
        raise DrillFailedError(what)
    print(f"ok      {what}", flush=True)


def replay_resume() -> None:
    """A reader that disconnects and resumes sees what an undisturbed reader sees."""
    with bench() as own:
        topic = own.topic()
        for number in range(MESSAGES):
            topic.publish(number)
        undisturbed = topic.read(page_size=2 * MESSAGES)
        expect("an undisturbed reader sees every message", seen=len(undisturbed), wanted=MESSAGES)
        replayed = topic.read(page_size=2 * MESSAGES)
        expect("a replay from the start is the same", seen=replayed, wanted=undisturbed)
        before = _read_and_disconnect(topic, pages=3)
        resumed = topic.read(after=before[-1][0])
        expect("a resumed reader sees the same sequence", seen=before + resumed, wanted=undisturbed)


def _read_and_disconnect(topic: Topic, pages: int) -> list[tuple[int, str]]:
    """Read some pages on one connection, ask for one more, and leave before its answer."""
    seen: list[tuple[int, str]] = []
    with requests.Session() as session:
        for page in range(pages + 1):
            answer = session.get(
                topic.url(),
                params={"after": seen[-1][0] if seen else 0, "limit": PAGE},
                headers=topic.headers(),
                timeout=TIMEOUT_SECONDS,
                stream=True,
            )
            if page == pages:
                answer.close()
                break
            messages = answer.json()["data"]["messages"]
            seen += [(message["sequence"], message["message_id"]) for message in messages]
    return seen


def chaos() -> None:
    """A server that is killed while it is written to loses nothing that it acknowledged."""
    variables = _variables()
    with tempfile.TemporaryDirectory(prefix="local-staging-") as folder:
        server, base_url = start_server(Path(folder), variables)
        own = Bench(base_url, issuer(variables))
        try:
            acknowledged = _publish_until_killed(own.topic(), server.kill)
            server.wait()
            server, base_url = start_server(Path(folder), variables)
            _after_restart(replace(own, base_url=base_url), acknowledged)
        finally:
            stop_server(server)


def _publish_until_killed(topic: Topic, kill: Callable[[], None]) -> dict[int, int]:
    """Publish from a thread and kill the server meanwhile; return what was acknowledged."""
    acknowledged: dict[int, int] = {}
    halfway = threading.Event()

    def publisher() -> None:
        for number in range(MESSAGES):
            try:
                acknowledged[number] = topic.publish(number)
            except requests.RequestException:
                break
            if number == MESSAGES // 2:
                halfway.set()
        halfway.set()

    thread = threading.Thread(target=publisher, name="publisher")
    thread.start()
    halfway.wait(TIMEOUT_SECONDS)
    kill()
    thread.join()
    print(f"        killed after {len(acknowledged)} acknowledged messages", flush=True)
    return acknowledged


def _after_restart(own: Bench, acknowledged: Mapping[int, int]) -> None:
    topic = own.topic()
    kept = dict(topic.read())
    found = {number: sequence for sequence, name in kept.items() for number in [int(name[1:])]}
    lost = [number for number in acknowledged if number not in found]
    expect("restart: nothing acknowledged is lost", seen=lost, wanted=[])
    moved = [number for number, place in acknowledged.items() if found[number] != place]
    expect("restart: every message keeps its sequence", seen=moved, wanted=[])
    for number in range(MESSAGES):
        topic.publish(number)
    names = [name for _, name in topic.read()]
    expect("retry: nothing is doubled", seen=len(names), wanted=len(set(names)))
    expect("retry: nothing is missing", seen=len(names), wanted=MESSAGES)
    expect("replay: the same again", seen=topic.read(), wanted=topic.read())
    stale = topic.get(after=MESSAGES + 1000)
    expect("stale cursor: refused", seen=_refusal(stale), wanted=(409, "stale_cursor"))
    foreign = replace(topic, name=OTHER_TOPIC).get(after=0)
    expect("scope: another topic is refused", seen=_refusal(foreign), wanted=(403, "forbidden"))


def sync_security() -> None:
    """Whoever has no right token for a topic is refused, with the documented error."""
    with bench() as own:
        right, wrong_key = own.topic(), replace(own.issuer, key="0" * 64)
        wrong_audience = replace(own.issuer, audience="someone-else")
        expired = own.issuer.sync([TOPIC], life=timedelta(seconds=-60))
        cases: list[tuple[str, str | None, tuple[int, str]]] = [
            ("no token", None, (401, "unauthorized")),
            ("not a token", "nonsense", (401, "invalid_token")),
            ("a wrong signature", wrong_key.sync([TOPIC]), (401, "invalid_token")),
            ("a wrong audience", wrong_audience.sync([TOPIC]), (401, "invalid_token")),
            ("an expired token", expired, (401, "token_expired")),
            ("a session token", own.issuer.session(), (401, "invalid_token")),
            ("another topic's scope", own.issuer.sync([OTHER_TOPIC]), (403, "forbidden")),
        ]
        right.publish(0)
        for name, token, wanted in cases:
            intruder = replace(right, token=token)
            expect(f"{name} cannot read", seen=_refusal(intruder.get(after=0)), wanted=wanted)
            message = {"message_id": "forged", "payload": "forged"}
            expect(f"{name} cannot write", seen=_refusal(intruder.post(message)), wanted=wanted)
        expect("the right token reads what it wrote", seen=right.read(), wanted=[(1, "m0")])


def _refusal(answer: requests.Response) -> tuple[int, str]:
    try:
        code = str(answer.json()["error"]["code"])
    except (ValueError, KeyError, TypeError):
        code = "no error"
    return answer.status_code, code


DRILLS: Mapping[str, Callable[[], None]] = {
    "replay-resume": replay_resume,
    "chaos": chaos,
    "sync-security": sync_security,
}


def main() -> int:
    """Run the drill that the first argument names; return the exit code."""
    name = sys.argv[1] if len(sys.argv) == 2 else ""  # noqa: PLR2004 - program and drill
    if name not in DRILLS:
        print(f"usage: drills {'|'.join(DRILLS)}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that servers and folders go too
    try:
        DRILLS[name]()
    except (DrillFailedError, requests.RequestException) as error:
        print(f"drill {name} failed: {error}", flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"drill {name} passed", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
