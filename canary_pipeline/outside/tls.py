"""Whom to trust over TLS, and what to show who we are: the system's store, or files of one's own.

Nothing but a file is needed for a private CA: one that the system trusts is trusted here too.
"""

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

BUNDLE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Where other tools are told of a CA bundle; obeyed where no setting names one."""


class TlsFileError(Exception):
    """A CA bundle or client certificate cannot be used; the message names it."""


@dataclass(frozen=True)
class Tls:
    """Files that replace the usual ones.

    Attributes:
        ca_bundle: PEM file, or folder of hashed certificates, of the only CAs to trust.
        client_cert: PEM file of a certificate and its key without a password, for servers that
            ask for one.
    """

    ca_bundle: Path | None = None
    client_cert: Path | None = None


def client_context(tls: Tls) -> ssl.SSLContext:
    """What every connection to a server is checked by.

    Raises:
        TlsFileError: When a file is missing or unreadable.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bundle = tls.ca_bundle or _bundle_of_other_tools()
    if bundle is None:
        _trust_the_system(context)
    else:
        _use("CA bundle", bundle, lambda: _trust(context, bundle))
    cert = tls.client_cert
    if cert is not None:
        # An empty password keeps OpenSSL from asking at the terminal.
        _use("client certificate", cert, lambda: context.load_cert_chain(cert, password=""))
    return context


def _bundle_of_other_tools() -> Path | None:
    named = [value for name in BUNDLE_VARIABLES if (value := os.environ.get(name))]
    return Path(named[0]) if named else None


def _trust(context: ssl.SSLContext, bundle: Path) -> None:
    if bundle.is_dir():
        context.load_verify_locations(capath=bundle)
    else:
        context.load_verify_locations(cafile=bundle)


def _trust_the_system(context: ssl.SSLContext) -> None:
    """Trust what the system trusts; a host without a store of its own gets Mozilla's."""
    known = ssl.get_default_verify_paths()
    if known.cafile or (known.capath and any(Path(known.capath).iterdir())):
        context.load_default_certs()
    else:
        import certifi  # noqa: PLC0415 - rarely needed

        context.load_verify_locations(certifi.where())


def _use(what: str, path: Path, load: Callable[[], None]) -> None:
    try:
        load()
    except ssl.SSLError as error:
        why = f"not usable ({error.reason or 'no certificate in it'})"
        raise TlsFileError(f"the {what} {path} is {why}") from None
    except OSError as error:
        raise TlsFileError(f"the {what} {path} cannot be read: {error.strerror}") from None
