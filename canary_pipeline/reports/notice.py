"""Telling people of a decision: a webhook, or any other service that apprise knows."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from canary_pipeline.model.decision import Reason
from canary_pipeline.reports.verification import check
from canary_pipeline.store.folder import Evidence
from canary_pipeline.store.layout import DECISION, SUMMARY

NO_DECISION = "no decision"


class NoticeNotSentError(Exception):
    """A notice did not reach its receiver. The message holds nothing of the receiver's URL."""


@dataclass(frozen=True)
class Notice:
    """A rollout's decision, as people are told of it.

    Attributes:
        environment: What was rolled out to.
        decision: `allow`, `block` or `no decision`.
        reasons: What blocks, each with where its evidence lies.
        folder: The rollout's folder.
        link: Where to read on.
        sha256: The digest of `decision.json`; None where there is none.
    """

    environment: str
    decision: str
    reasons: tuple[Reason, ...]
    folder: str
    link: str
    sha256: str | None = None

    @property
    def title(self) -> str:
        """One line, the decision in it."""
        return f"{self.environment} canary rollout: {self.decision}"

    @property
    def text(self) -> str:
        """The reasons and the link, a line each."""
        reasons = [f"- {reason.text} (evidence: {reason.evidence})" for reason in self.reasons]
        return "\n".join([*reasons, self.link])

    def fields(self) -> dict[str, Any]:
        """What a program that receives a notice reads."""
        return {
            "environment": self.environment,
            "decision": self.decision,
            "reasons": [
                {"text": reason.text, "evidence": reason.evidence} for reason in self.reasons
            ],
            "folder": self.folder,
            "link": self.link,
            "decision_sha256": self.sha256,
        }


def notice_of(evidence: Evidence, link: str | None = None) -> Notice:
    """The notice of a rollout's decision.

    It never says `allow` for a folder whose evidence does not.

    Args:
        evidence: The rollout's folder.
        link: Where to read on; by default the summary itself.

    Raises:
        NotARolloutError: When the folder holds no rollout.
    """
    header, found = evidence.header(), check(evidence)
    reasons = tuple(Reason(why, DECISION) for why in found.reasons)
    if found.statement is not None and not reasons:
        reasons = tuple(Reason(why.text, why.evidence) for why in found.statement.details.reasons)
    return Notice(
        header.environment,
        NO_DECISION if found.answer == "none" else found.answer,
        reasons,
        str(evidence.folder),
        link or (evidence.folder / SUMMARY).as_uri(),
        found.sha256,
    )


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
