"""What the gates check, each against a server of its own: `python -m …drills replay-resume`."""

import itertools
import os
import reprlib
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import requests

from canary_pipeline.local_staging.stand_in import StandInError, server_process
from canary_pipeline.local_staging.tokens import Issuer, new_token_variables

TOPIC = "org:local:worker"
OTHER_TOPIC = "org:other:worker"
MESSAGES = 60
PAGE = 7
TIMEOUT_SECONDS = 10

Sequence = list[tuple[int, str]]
"""What a reader saw: sequences and message ids, in the order of arrival."""


class DrillFailedError(Exception):
    """Staging did not do what it must; the message says what was seen."""


def _connection() -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # loopback: no proxy, no login of the person who runs this
    return session


@dataclass(frozen=True)
class Client:
    """A client of one topic, with some token, on one connection."""

    base_url: str
    token: str | None
    topic: str = TOPIC
    connection: requests.Session = field(default_factory=_connection)

    def publish(self, number: int) -> int:
        """Publish the message of this number; return its sequence."""
        answer = self.post({"message_id": f"m{number}", "payload": f"payload {number}"})
        answer.raise_for_status()
        sequence: int = answer.json()["data"]["sequence"]
        return sequence

    def read(
        self, after: int = 0, *, page_size: int = PAGE, most_pages: int = MESSAGES
    ) -> Sequence:
        """Read page by page from a cursor, to the end or to the last page wanted."""
        seen: Sequence = []
        for _ in range(most_pages):
            answer = self.get(after, page_size)
            answer.raise_for_status()
            page = answer.json()["data"]["messages"]
            if not page:
                break
            seen += [(message["sequence"], message["message_id"]) for message in page]
            after = seen[-1][0]
        return seen

    def post(self, message: Mapping[str, str]) -> requests.Response:
        """Send a message."""
        return self._ask("POST", json=message)

    def get(self, after: int, limit: int = PAGE) -> requests.Response:
        """Ask for the messages that follow a cursor."""
        return self._ask("GET", params={"after": after, "limit": limit})

    def leave_amid_answer(self, after: int) -> None:
        """Ask for a page and drop the connection before its content is read."""
        self._ask("GET", params={"after": after, "limit": PAGE}, stream=True).close()
        self.connection.close()

    def _ask(
        self,
        method: str,
        *,
        json: Mapping[str, str] | None = None,
        params: Mapping[str, int] | None = None,
        stream: bool = False,
    ) -> requests.Response:
        return self.connection.request(
            method,
            f"{self.base_url}/internal/v1/spacetime/topics/{self.topic}/messages",
            json=json,
            params=params,
            headers={"Authorization": f"Bearer {self.token}"} if self.token is not None else {},
            timeout=TIMEOUT_SECONDS,
            stream=stream,
        )


@dataclass(frozen=True)
class Bench:
    """A server of a drill's own."""

    base_url: str
    issuer: Issuer
    kill: Callable[[], None]

    def client(self) -> Client:
        """A new client of the drill's topic, with the right token."""
        return Client(self.base_url, self.issuer.sync([TOPIC]))


@contextmanager
def bench(folder: Path, variables: Mapping[str, str]) -> Iterator[Bench]:
    """A server on the state in a folder, while the body runs."""
    with server_process(folder, {**os.environ, **variables}) as (process, base_url):
        yield Bench(base_url, Issuer.read(variables), process.kill)


def expect(what: str, *, seen: object, wanted: object) -> None:
    """Say that something is as it must be.

    Raises:
        DrillFailedError: When it is not.
    """
    if seen != wanted:
        print(f"FAILED  {what}: {_difference(seen, wanted)}", flush=True)
        raise DrillFailedError(what)
    print(f"ok      {what}", flush=True)


def _difference(seen: object, wanted: object) -> str:
    """What differs; of two lists only what follows their common beginning, and not all of that."""
    if isinstance(seen, list) and isinstance(wanted, list):
        same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(seen, wanted, strict=False))
        common = len(list(same))
        seen, wanted = seen[common:], wanted[common:]
    return f"expected {reprlib.repr(wanted)}, saw {reprlib.repr(seen)}"


def replay_resume(folder: Path) -> None:
    """A reader that disconnects and resumes sees what an undisturbed reader sees."""
    with bench(folder, new_token_variables()) as own:
        publisher = own.client()
        sent = [(publisher.publish(number), f"m{number}") for number in range(MESSAGES)]
        undisturbed = own.client().read(page_size=2 * MESSAGES)
        expect("an undisturbed reader sees every message", seen=undisturbed, wanted=sent)
        expect("a replay from the start is the same", seen=own.client().read(), wanted=sent)
        leaver = own.client()
        before = leaver.read(most_pages=3)
        leaver.leave_amid_answer(after=before[-1][0])
        resumed = own.client().read(after=before[-1][0])
        expect("a resumed reader sees the same sequence", seen=before + resumed, wanted=sent)


def chaos(folder: Path) -> None:
    """A server that is killed while it is written to loses nothing that it acknowledged."""
    variables = new_token_variables()
    with bench(folder, variables) as own:
        acknowledged = _publish_until_killed(own)
    with bench(folder, variables) as own:
        _after_restart(own, acknowledged)


def _publish_until_killed(own: Bench) -> dict[int, int]:
    """Publish from a thread and kill the server meanwhile; return what was acknowledged."""
    acknowledged: dict[int, int] = {}
    halfway = threading.Event()

    def publish() -> None:
        client = own.client()
        try:
            for number in range(MESSAGES):
                acknowledged[number] = client.publish(number)
                if number == MESSAGES // 2:
                    halfway.set()
        except requests.RequestException:
            pass  # what was not acknowledged is published again after the restart
        finally:
            halfway.set()

    publisher = threading.Thread(target=publish, name="publisher")
    publisher.start()
    halfway.wait(TIMEOUT_SECONDS)
    own.kill()
    publisher.join()
    print(f"        killed after {len(acknowledged)} acknowledged messages", flush=True)
    return acknowledged


def _after_restart(own: Bench, acknowledged: Mapping[int, int]) -> None:
    client = own.client()
    kept = {int(name.removeprefix("m")): sequence for sequence, name in client.read()}
    lost = [number for number in acknowledged if number not in kept]
    expect("restart: nothing acknowledged is lost", seen=lost, wanted=[])
    moved = [number for number, place in acknowledged.items() if kept[number] != place]
    expect("restart: every message keeps its sequence", seen=moved, wanted=[])
    for number in range(MESSAGES):
        client.publish(number)
    names = [name for _, name in client.read()]
    expect("retry: nothing is doubled", seen=len(names), wanted=len(set(names)))
    expect("retry: nothing is missing", seen=len(names), wanted=MESSAGES)
    expect("replay: the same again", seen=client.read(), wanted=own.client().read())
    stale = client.get(after=MESSAGES + 1000)
    expect("stale cursor: refused", seen=_refusal(stale), wanted=(409, "stale_cursor"))
    foreign = replace(client, topic=OTHER_TOPIC).get(after=0)
    expect("scope: another topic is refused", seen=_refusal(foreign), wanted=(403, "forbidden"))


def sync_security(folder: Path) -> None:
    """Whoever has no right token for a topic is refused, with the documented error."""
    with bench(folder, new_token_variables()) as own:
        right, wrong_key = own.client(), replace(own.issuer, key="0" * 64)
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


DRILLS: Mapping[str, Callable[[Path], None]] = {
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
        with tempfile.TemporaryDirectory(prefix="local-staging-") as folder:
            DRILLS[name](Path(folder))
    except (DrillFailedError, StandInError, requests.RequestException) as error:
        print(f"drill {name} failed: {error}", flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"drill {name} passed", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
