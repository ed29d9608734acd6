"""Which signals end a rollback: none that is a part of the request to stop."""

import os
import signal

import pytest

from canary_pipeline.outside import stop
from canary_pipeline.outside.stop import Signals, StoppedError

SIGINT, SIGTERM = signal.SIGINT, signal.SIGTERM


def send(*numbers: signal.Signals) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("before", [(SIGINT,), (SIGTERM,), (SIGINT, SIGTERM)])
def test_what_a_ci_sends_to_cancel_is_one_request(before: tuple[signal.Signals, ...]) -> None:
    [other] = {SIGINT, SIGTERM} - {before[0]}
    with Signals() as signals:
        send(*before)
        signals.obey()
        signals.check_again()
        send(other)
        signals.check_again()
        send(before[0])
        with pytest.raises(StoppedError, match=f"interrupted by {before[0].name}"):
            signals.check_again()

    assert signals.stop.why == f"stopped by {before[0].name}"


def test_a_signal_of_another_kind_much_later_is_a_request_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stop, "LADDER_SECONDS", 0.0)
    with Signals() as signals:
        send(SIGINT)
        signals.obey()
        send(SIGTERM)
        with pytest.raises(StoppedError, match="interrupted by SIGTERM"):
            signals.check_again()


def test_the_first_signal_amid_a_rollback_that_nobody_asked_for_ends_it() -> None:
    with Signals() as signals:
        signals.obey()
        signals.check_again()
        send(SIGTERM)
        with pytest.raises(StoppedError, match="interrupted by SIGTERM"):
            signals.check_again()
