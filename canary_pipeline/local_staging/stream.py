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
            durable: Whether publishing waits until a message is on disk, as it should.
        """
        self._durable = durable
        self._unwritten: list[tuple[str, str, str]] = []
        # One connection; the service serves one request after another.
        self._database = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute(_SCHEMA)

    def publish(self, topic: str, message_id: str, payload: str) -> Published:
        """Add a message; one that was published before keeps its place."""
        if not self._durable:
            return self._publish_in_memory(topic, message_id, payload)
        return self._insert(topic, message_id, payload)

    def _insert(self, topic: str, message_id: str, payload: str) -> Published:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            row = self._database.execute(
                "SELECT sequence FROM messages WHERE topic = ? AND message_id = ?",
                (topic, message_id),
            ).fetchone()
            if row is None:
                sequence = self.last_sequence(topic) + 1
                self._database.execute(
                    "INSERT INTO messages VALUES (?, ?, ?, ?)",
                    (topic, sequence, message_id, payload),
                )
        finally:
            self._database.execute("COMMIT")
        return Published(row[0] if row else sequence, duplicate=row is not None)

    def _publish_in_memory(self, topic: str, message_id: str, payload: str) -> Published:
        """Acknowledge now and write later: what the fault `lost-on-crash` does wrong."""
        batch = 8
        self._unwritten.append((topic, message_id, payload))
        sequence = self.last_sequence(topic) + len(self._unwritten)
        if len(self._unwritten) == batch:
            for message in self._unwritten:
                self._insert(*message)
            self._unwritten.clear()
        return Published(sequence, duplicate=False)

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
        row = self._database.execute(
            "SELECT COALESCE(MAX(sequence), 0) FROM messages WHERE topic = ?", (topic,)
        ).fetchone()
        last: int = row[0]
        return last
