"""The stand-in as a process of its own: `python -m canary_pipeline.local_staging.server`."""

import asyncio
import os
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import click
import uvicorn

from canary_pipeline.local_staging.faults import fault_in
from canary_pipeline.local_staging.routing import RoutingSettings
from canary_pipeline.local_staging.service import Staging, service
from canary_pipeline.local_staging.stream import TopicStream
from canary_pipeline.local_staging.tokens import Issuer

HOST = "127.0.0.1"


@click.command()
@click.option("--port", default=0, help="0 takes a free one.")
@click.option(
    "--state-dir", type=click.Path(path_type=Path, file_okay=False), required=True,
    help="Where topics are kept.",
)  # fmt: skip
@click.option(
    "--ready-file", type=click.Path(path_type=Path), help="Gets the base URL once it serves."
)
def main(port: int, state_dir: Path, ready_file: Path | None) -> None:
    """Serve the stand-in on loopback until it is stopped, or its standard input is closed."""
    try:
        staging = staging_from(os.environ, state_dir)
    except (KeyError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    listener = socket.create_server((HOST, port))
    server = _Server(
        uvicorn.Config(
            service(staging),
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=0,
        ),
        f"http://{HOST}:{listener.getsockname()[1]}",
        ready_file,
    )
    _end_with_parent(server)
    server.run([listener])


def staging_from(variables: Mapping[str, str], state_dir: Path) -> Staging:
    """The staging that these variables describe.

    Raises:
        KeyError: When a variable of the tokens is missing.
        ValueError: When the fault is unknown.
    """
    prefix = "OA_SPACETIME_STAGING"
    fault = fault_in(variables)
    state_dir.mkdir(parents=True, exist_ok=True)
    return Staging(
        Issuer(
            variables[f"{prefix}_JWT_SIGNING_KEY"],
            variables[f"{prefix}_TOKEN_ISSUER"],
            variables[f"{prefix}_TOKEN_AUDIENCE"],
        ),
        RoutingSettings.read(variables),
        TopicStream(state_dir / "topics.sqlite", durable=fault != "lost-on-crash"),
        fault,
        variables.get("LOCAL_STAGING_MAINTENANCE") == "1",
    )


class _Server(uvicorn.Server):
    """Uvicorn that says when it serves."""

    def __init__(self, config: uvicorn.Config, base_url: str, ready_file: Path | None) -> None:
        super().__init__(config)
        self._base_url = base_url
        self._ready_file = ready_file

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._ready_file is not None:
            partial = self._ready_file.with_suffix(".partial")
            partial.write_text(self._base_url)
            partial.replace(self._ready_file)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # A request that is held open on purpose must not hold up the end.
        for connection in list(self.server_state.connections):
            transport = getattr(connection, "transport", None)
            if isinstance(transport, asyncio.Transport):
                transport.abort()
        await super().shutdown(sockets)


def _end_with_parent(server: uvicorn.Server) -> None:
    """Stop when standard input ends: a parent that is killed cannot say so in any other way."""
    if sys.stdin is None or sys.stdin.isatty():
        return

    def watch() -> None:
        while sys.stdin.buffer.read(1):
            pass
        server.should_exit = True

    threading.Thread(target=watch, name="parent", daemon=True).start()


if __name__ == "__main__":
    main()
