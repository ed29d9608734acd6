"""URLs as people and files may see them, and what decides whether two mean the same server."""

from urllib.parse import urlsplit


def origin(url: str) -> tuple[str, str, int]:
    """The scheme, host and port of a URL: what decides whether a token may be sent there."""
    parts = urlsplit(url)
    default_port = 443 if parts.scheme == "https" else 80
    return parts.scheme, parts.hostname or "", parts.port or default_port


def shown_url(url: str) -> str:
    """A URL as people and files may see it: without user info, query values and fragment."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = f":{parts.port}" if parts.port else ""
    query = "?…" if parts.query else ""
    return f"{parts.scheme}://{host}{port}{parts.path}{query}"
