"""The stand-in as a process of its own: `python -m canary_pipeline.local_staging.server`."""

import asyncio
import os
import socket
import threading
from collections.abc import Mapping
from pathlib import Path

import click
import uvicorn

from canary_pipeline.local_staging import session_file
from canary_pipeline.local_staging.deployment import Deployment
from canary_pipeline.local_staging.faults import FAULT_PERCENT, fault_in
from canary_pipeline.local_staging.restart import (
    HOST,
    keep_port,
    socket_to_serve_on,
    start_again,
)
from canary_pipeline.local_staging.routing import RoutingSettings
from canary_pipeline.local_staging.service import Staging, service
from canary_pipeline.local_staging.stream import TopicStream
from canary_pipeline.local_staging.tokens import Issuer, new_token_variables
from canary_pipeline.local_staging.traffic import VARIABLE as TRAFFIC_VARIABLE
from canary_pipeline.local_staging.traffic import Traffic


@click.command()
@click.option("--port", default=0, help="0 takes a free one.")
@click.option(
    "--state-dir", type=click.Path(path_type=Path, file_okay=False), required=True,
    help="Where topics and the session token are kept.",
)  # fmt: skip
@click.option(
    "--ready-file", type=click.Path(path_type=Path), help="Gets the base URL once it serves."
)
@click.option(
    "--end-with-stdin", is_flag=True, help="Stop when standard input ends, as a dead parent's does."
)
def main(*, port: int, state_dir: Path, ready_file: Path | None, end_with_stdin: bool) -> None:
    """Serve the stand-in on loopback until it is stopped."""
    state_dir.mkdir(parents=True, exist_ok=True)
    variables = {**new_token_variables(), **os.environ}
    try:
        staging = staging_from(variables, state_dir)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    server = _Server(staging, state_dir, ready_file)
    if end_with_stdin:
        threading.Thread(target=server.end_with_stdin, name="stdin", daemon=True).start()
    server.run([socket_to_serve_on(port)])
    staging.stream.close()
    if server.kept is not None:
        changed = staging.deployment.variables or {}
        carried = {TRAFFIC_VARIABLE: staging.traffic.carried()}
        start_again({**variables, **changed, **carried}, server.kept)


def staging_from(variables: Mapping[str, str], state_dir: Path) -> Staging:
    """The staging that these variables describe.

    Raises:
        ValueError: When the fault is unknown.
    """
    fault, routing = fault_in(variables), RoutingSettings.read(variables)
    return Staging(
        Issuer.read(variables),
        routing,
        TopicStream(state_dir / "topics.sqlite", durable=fault != "lost-on-crash"),
        Traffic.read(variables, ill=routing.user_percent >= FAULT_PERCENT),
        fault,
        variables.get("LOCAL_STAGING_MAINTENANCE") == "1",
        deployment=Deployment(fault),
    )


class _Server(uvicorn.Server):
    """Uvicorn that says when it serves, and keeps the session token fresh while it does.

    Attributes:
        kept: Holds the port when the server has stopped to start again; else None.
    """

    def __init__(self, staging: Staging, state_dir: Path, ready_file: Path | None) -> None:
        config = uvicorn.Config(
            service(staging),
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        super().__init__(config)
        self.kept: socket.socket | None = None
        self._staging = staging
        self._token_file = state_dir / session_file.NAME
        self._ready_file = ready_file

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        issuer = self._staging.issuer
        session_file.write_session(self._token_file, issuer)
        renewal = asyncio.create_task(session_file.keep_fresh(self._token_file, issuer))
        try:
            await super().serve(sockets)
        finally:
            renewal.cancel()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._ready_file is not None and sockets:
            partial = self._ready_file.with_suffix(".partial")
            partial.write_text(f"http://{HOST}:{sockets[0].getsockname()[1]}")
            partial.replace(self._ready_file)

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._staging.deployment.variables is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._staging.deployment.variables is not None:
            await self._stop_listening(sockets or [])
        else:
            # A request that is held open on purpose must not hold up the end.
            for connection in list(self.server_state.connections):
                connection.transport.abort()
        await super().shutdown(sockets)

    async def _stop_listening(self, sockets: list[socket.socket]) -> None:
        """Refuse connections from now on, but keep the port; requests that came before go on."""
        _, port = sockets[0].getsockname()
        for server in self.servers:
            server.close()
        for listener in sockets:
            listener.close()
        self.kept = await keep_port(port)
        self._staging.deployment.begun.set()

    def end_with_stdin(self) -> None:
        """Stop when standard input ends: a parent that is killed cannot say so in any other way."""
        while os.read(0, 1):
            pass
        self.should_exit = True


if __name__ == "__main__":
    main()
