"""The topic stream: what is published stays, once, in its place."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from canary_pipeline.local_staging.stream import Message, Published, StaleCursorError, TopicStream


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[TopicStream]:
    stream = TopicStream(tmp_path / "topics.sqlite")
    yield stream
    stream.close()


def test_each_topic_counts_its_own_messages(stream: TopicStream) -> None:
    places = [stream.publish(topic, name, "p").sequence for topic, name in ("ax", "ay", "bx")]

    assert places == [1, 2, 1]


def test_a_message_published_again_keeps_its_place_and_its_payload(stream: TopicStream) -> None:
    stream.publish("topic", "m0", "first")
    stream.publish("topic", "m1", "second")

    assert stream.publish("topic", "m0", "other") == Published(1, duplicate=True)
    assert stream.poll("topic", 0, 10) == [Message(1, "m0", "first"), Message(2, "m1", "second")]


def test_a_cursor_gives_what_follows_it(stream: TopicStream) -> None:
    for number in range(5):
        stream.publish("topic", f"m{number}", "p")

    assert [message.sequence for message in stream.poll("topic", 2, 2)] == [3, 4]
    assert stream.poll("topic", 5, 2) == []
    with pytest.raises(StaleCursorError):
        stream.poll("topic", 6, 2)


@pytest.mark.parametrize("durable", [True, False])
def test_only_a_durable_stream_is_there_when_the_file_is_opened_again(
    durable: bool,  # noqa: FBT001 - a table's column
    tmp_path: Path,
) -> None:
    before = TopicStream(tmp_path / "topics.sqlite", durable=durable)
    published = before.publish("topic", "m0", "p")
    before.close()
    after = TopicStream(tmp_path / "topics.sqlite")

    assert published == Published(1, duplicate=False)
    assert after.last_sequence("topic") == int(durable)
    after.close()
