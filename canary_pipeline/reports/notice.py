"""Telling people of a decision: a webhook, or any other service that apprise knows."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from canary_pipeline.model.decision import Decision, Reason
from canary_pipeline.model.remarks import remarks
from canary_pipeline.reports.verification import Verification, check
from canary_pipeline.settings import SettingValues
from canary_pipeline.store.folder import Evidence, NotARolloutError
from canary_pipeline.store.layout import DECISION, HEADER, SUMMARY
from canary_pipeline.store.outbox import Item, Outbox

NO_DECISION = "no decision"

MOST_AT_ONCE = 5
"""Notices at once: whoever delivers them has a minute for all."""


class NoticeNotSentError(Exception):
    """A notice did not reach its receiver. The message holds nothing of the receiver's URL."""


@dataclass(frozen=True)
class Notice:
    """A rollout's decision, as people are told of it.

    Attributes:
        environment: What was rolled out to.
        decision: `allow`, `block`, `no decision`, `withdrawn`, `rolled back` or `left live`.
        reasons: What blocks, each with where its evidence lies.
        folder: The rollout's folder.
        link: Where to read on.
        sha256: The digest of `decision.json`; None where there is none.
        remarks: What the decision's word does not say by itself.
        id: By which a receiver knows that it was told before; empty for what is told once.
    """

    environment: str
    decision: str
    reasons: tuple[Reason, ...]
    folder: str
    link: str
    sha256: str | None = None
    remarks: tuple[str, ...] = ()
    id: str = ""

    @property
    def title(self) -> str:
        """One line, the decision in it; an allow with what makes it less than it seems."""
        less = f" ({'; '.join(self.remarks)})" if self.remarks and self.decision == "allow" else ""
        return f"{self.environment} canary rollout: {self.decision}{less}"

    @property
    def text(self) -> str:
        """What there is to know, the reasons and the link, a line each."""
        reasons = [f"- {reason.text} (evidence: {reason.evidence})" for reason in self.reasons]
        return "\n".join([*self.remarks, *reasons, self.link])

    def fields(self) -> dict[str, Any]:
        """What a program that receives a notice reads."""
        return {
            "environment": self.environment,
            "decision": self.decision,
            "reasons": [
                {"text": reason.text, "evidence": reason.evidence} for reason in self.reasons
            ],
            "remarks": list(self.remarks),
            "folder": self.folder,
            "link": self.link,
            "decision_sha256": self.sha256,
            "id": self.id,
        }


def announce(
    evidence: Evidence, decision: str, because: Decision | None = None, *more: Reason
) -> None:
    """Put a notice of a rollout into the outbox; that it cannot be is no reason to stop.

    Args:
        evidence: The rollout's folder.
        decision: What to tell.
        because: Whose reasons to tell.
        more: Further reasons.
    """
    reasons = (*more, *(because.reasons if because else ()))
    with suppress(OSError, NotARolloutError):
        header = evidence.header()
        last = header.last_attempt
        item = Item(
            environment=header.environment,
            folder=str(evidence.folder),
            attempt=last.attempt if last else 0,
            decision=decision,
            reasons=tuple((reason.text, reason.evidence) for reason in reasons),
            remarks=remarks(evidence.record()),
            run_id=last.run_id if last else "",
            at=datetime.now(UTC),
        )
        Outbox(header.environment).put(item)


def tell_people(environment: str, values: SettingValues) -> list[str]:
    """Tell the receiver that settings name, if they do, what waits in an environment's outbox.

    Returns:
        Why notices were not told; that changes no decision.
    """
    if values.notify_url is None:
        return []
    try:
        _, problems = deliver(environment, values.notify_url.get_secret_value(), values.ui_url)
    except (OSError, ValueError) as error:
        return [str(error)]
    return problems


def deliver(environment: str, url: str, ui_url: str | None = None) -> tuple[int, list[str]]:
    """Tell what waits in the outbox of an environment.

    Args:
        environment: What was rolled out to.
        url: The receiver.
        ui_url: Where people reach the Dagster UI, where somebody has said so.

    Returns:
        How many notices were told, and why others were not; they are tried again another time.

    Raises:
        ValueError: When the URL is nobody's.
    """
    outbox, told, problems = Outbox(environment), 0, []
    for item in outbox.waiting(datetime.now(UTC))[:MOST_AT_ONCE]:
        try:
            send(_notice_of(item, ui_url), url)
        except NoticeNotSentError as error:
            problems.append(f"{item.folder or f'run {item.run_id}'}: {error}")
            outbox.note(item.model_copy(update={"tries": item.tries + 1}))
        else:
            told += 1
            outbox.note(item.model_copy(update={"told": True}))
    return told, problems


def _notice_of(item: Item, ui_url: str | None) -> Notice:
    evidence = Evidence(Path(item.folder))
    reasons = tuple(Reason(*reason) for reason in item.reasons)
    decision, link = item.decision, (evidence.folder / SUMMARY).as_uri() if item.folder else ""
    found = check(evidence) if item.folder and evidence.exists(HEADER) else None
    if decision == "allow" and (found is None or found.answer != "allow"):
        # Nobody is told of an allow that does not hold any more.
        decision, reasons = _instead_of_allow(found)
    if ui_url and item.run_id:
        link = f"{ui_url.rstrip('/')}/runs/{item.run_id}"
    digest = found.sha256 if found else None
    said = item.remarks
    return Notice(item.environment, decision, reasons, item.folder, link, digest, said, item.id)


def _instead_of_allow(found: Verification | None) -> tuple[str, tuple[Reason, ...]]:
    """What people are told where an allow was to be told, and why; None: the folder is gone."""
    if found is None:
        return NO_DECISION, (Reason("it was allow, but its folder is gone", DECISION),)
    if found.answer == "block" and found.statement is not None:
        said = found.statement.details.reasons
        return "block", tuple(Reason(why.text, why.evidence) for why in said)
    return NO_DECISION, tuple(Reason(text, DECISION) for text in found.reasons)


def send(notice: Notice, url: str) -> None:
    """Send a notice and wait until it is taken.

    Args:
        notice: What to tell.
        url: An `http` or `https` URL gets a POST of a JSON object with the notice's fields;
            a service's own webhook and every other URL are apprise's, such as `slack://…`.

    Raises:
        ValueError: When the URL is none of these.
        NoticeNotSentError: When the receiver cannot be reached or refuses it.
    """
    import apprise  # noqa: PLC0415 - imported only where a notice is sent

    receiver = apprise.Apprise.instantiate(url, suppress_exceptions=True)
    if receiver is None and url.startswith(("http://", "https://")):
        with suppress(ValueError):  # in urllib's words a part of the password may stand
            receiver = apprise.Apprise.instantiate(_webhook(notice, url), suppress_exceptions=True)
    if receiver is None:
        message = "no URL of a webhook or of a service that apprise knows"
        raise ValueError(message)
    kind = "success" if notice.decision == "allow" else "failure"
    if not receiver.notify(body=notice.text, title=notice.title, notify_type=kind):
        message = "the receiver could not be reached, or did not take the notice"
        raise NoticeNotSentError(message)


def _webhook(notice: Notice, url: str) -> dict[str, Any]:
    """Apprise's JSON webhook at exactly this URL, with the notice's fields in its body."""
    parts = urlsplit(url)
    return {
        "schema": "jsons" if parts.scheme == "https" else "json",
        "host": f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname,
        "port": parts.port,
        "user": unquote(parts.username) if parts.username else None,
        "password": unquote(parts.password) if parts.password else None,
        "fullpath": parts.path or "/",
        "params": dict(parse_qsl(parts.query, keep_blank_values=True)),
        "payload": notice.fields(),
    }
