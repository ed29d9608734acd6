"""What `apply-canary.sh` does: ask the stand-in's deployment for new canary variables."""

import http.client
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from canary_pipeline.local_staging import session_file
from canary_pipeline.local_staging.routing import VARIABLES
from canary_pipeline.local_staging.stand_in import BASE_URL_FILE, STATE_DIR_VARIABLE

ENV_FILE_VARIABLE = "OA_STAGING_CANARY_ENV_FILE"
PATIENCE_SECONDS = 3
TIMEOUT_SECONDS = 5


class ApplyError(Exception):
    """The variables were not applied; the message says why."""


def asked_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The canary variables to apply.

    Raises:
        ApplyError: When the environment lacks any, or the file beside it says anything else.
    """
    needed = (*VARIABLES, ENV_FILE_VARIABLE, STATE_DIR_VARIABLE)
    missing = [name for name in needed if not environment.get(name)]
    if missing:
        raise ApplyError(f"not set: {' '.join(missing)}")
    variables = {name: environment[name] for name in VARIABLES}
    file = Path(environment[ENV_FILE_VARIABLE])
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ApplyError(f"{ENV_FILE_VARIABLE} cannot be read: {error}") from None
    if sorted(lines) != sorted(_lines(variables)):
        raise ApplyError(f"{file} and the environment differ; it must hold {_lines(variables)}")
    return variables


def _lines(variables: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in variables.items()]


def apply(variables: Mapping[str, str], state_dir: Path) -> str:
    """Ask the stand-in to start again with these variables; return its base URL.

    Raises:
        ApplyError: When it refuses, or cannot be reached for longer than a restart takes.
    """
    base_url = _read(state_dir / BASE_URL_FILE)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            _put(base_url, variables, _read(state_dir / session_file.NAME))
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() > deadline:
                raise ApplyError(f"no stand-in can be reached at {base_url}: {error}") from None
            time.sleep(0.05)
        else:
            return base_url


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError as error:
        raise ApplyError(f"no stand-in has this state: {error}") from None


def _put(base_url: str, variables: Mapping[str, str], token: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=TIMEOUT_SECONDS)
    try:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request("PUT", "/deployment/variables", json.dumps(variables), headers)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != http.client.ACCEPTED:
        raise ApplyError(f"the stand-in answered {answer.status}: {_message(body)}")


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return "no reason given"


def main() -> int:
    """Apply what the environment asks for; return the exit code."""
    try:
        variables = asked_variables(os.environ)
        print(f"applying {' '.join(_lines(variables))}", flush=True)
        base_url = apply(variables, Path(os.environ[STATE_DIR_VARIABLE]))
    except ApplyError as error:
        print(f"FAILED  {error}", file=sys.stderr)
        return 1
    print(f"ok      {base_url} was asked to restart with them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
