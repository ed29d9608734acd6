"""A small durable topic stream: publish, and poll from a cursor. Survives being killed."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    topic TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    payload TEXT NOT NULL,
    PRIMARY KEY (topic, sequence),
    UNIQUE (topic, message_id)
)
"""

_APPEND = """
INSERT INTO messages
SELECT :topic, COALESCE(MAX(sequence), 0) + 1, :message_id, :payload
FROM messages WHERE topic = :topic
ON CONFLICT (topic, message_id) DO NOTHING
"""


class StaleCursorError(Exception):
    """A reader's cursor lies beyond the end of the topic."""


@dataclass(frozen=True)
class Message:
    """A message of a topic; sequences count from 1 without gaps."""

    sequence: int
    message_id: str
    payload: str


@dataclass(frozen=True)
class Published:
    """Where a message stands, and whether it was there before."""

    sequence: int
    duplicate: bool


class TopicStream:
    """Topics in one SQLite file."""

    def __init__(self, file: Path, *, durable: bool = True) -> None:
        """Open the file, making it if need be.

        Args:
            file: Where the topics are kept.
            durable: Whether a message is on disk when `publish` returns, as it should be.
        """
        # Without an isolation level every statement is its own transaction, on disk when it ends.
        # One connection; the service serves one request after another.
        self._database = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute(_SCHEMA)
        if not durable:
            self._database.execute("BEGIN")  # and never commit

    def publish(self, topic: str, message_id: str, payload: str) -> Published:
        """Add a message; one that was published before keeps its place and its payload."""
        message = {"topic": topic, "message_id": message_id, "payload": payload}
        added = self._database.execute(_APPEND, message).rowcount
        [sequence] = self._database.execute(
            "SELECT sequence FROM messages WHERE topic = :topic AND message_id = :message_id",
            message,
        ).fetchone()
        return Published(sequence, duplicate=not added)

    def poll(self, topic: str, after: int, limit: int) -> list[Message]:
        """The messages that follow a cursor.

        Args:
            topic: The topic.
            after: The sequence of the last message seen; 0 for none.
            limit: How many messages at the most.

        Raises:
            StaleCursorError: When the cursor lies beyond the end of the topic.
        """
        if after > self.last_sequence(topic):
            raise StaleCursorError(topic)
        rows = self._database.execute(
            "SELECT sequence, message_id, payload FROM messages"
            " WHERE topic = ? AND sequence > ? ORDER BY sequence LIMIT ?",
            (topic, after, limit),
        )
        return [Message(*row) for row in rows]

    def last_sequence(self, topic: str) -> int:
        """The sequence of the topic's last message; 0 where there is none."""
        [last] = self._database.execute(
            "SELECT COALESCE(MAX(sequence), 0) FROM messages WHERE topic = ?", (topic,)
        ).fetchone()
        return int(last)

    def close(self) -> None:
        """Close the file."""
        self._database.close()
