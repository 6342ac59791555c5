"""Listens for browsers: on this machine alone, or for other machines with TLS, under the names by which they may reach it."""

import ipaddress
import re
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from aqueue._journal.file import reason, shown
from aqueue.errors import AqueueError
from aqueue.text import visible

__all__ = ["CannotListen", "Listener", "listen"]

LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
"""How a browser on this machine may name it."""

_PORT: Final = 8_700
"""The usual port, so that one can forward it over ssh without looking it up."""

_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,250}[A-Za-z0-9_])?")


class CannotListen(AqueueError):
    """The page can't be served there; the message says why, and what to do."""


class Listener(NamedTuple):
    """Where browsers reach the page.

    Attributes:
        socket: which listens.
        origin: the beginning of the address, such as ``http://127.0.0.1:8700``.
        names: what browsers may name in ``Host``, without the port and in lower case.
        tls: the certificate and its key; None for plain HTTP.
    """

    socket: socket.socket
    origin: str
    names: frozenset[str]
    tls: ssl.SSLContext | None


def listen(
    host: str = LOOPBACK[0],
    port: int | None = None,
    *,
    tls: tuple[Path, Path] | None = None,
    names: Iterable[str] = (),
) -> Listener:
    """Listen on an address of this machine.

    Parameters:
        host: the address, or a name that leads to it. Any but a loopback address needs TLS.
        port: by default 8700, or another one if that is taken.
        tls: the files of the certificate and of its key, PEM.
        names: more names by which browsers may reach it. If other machines may, the first of them is in the printed address.

    Raises:
        CannotListen: the address isn't one of this machine, the port is taken, a name is none, a file can't be used, or there is
            no TLS where it is needed.
    """
    more = [_checked(name) for name in names]
    try:
        family, _, _, _, (found, *_) = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):  # a name with a label that no name can have
        raise CannotListen(f"--host {visible(host, 300)!r} is neither an address nor a known name") from None
    address = ipaddress.ip_address(str(found))
    if not address.is_loopback and tls is None:
        raise CannotListen(
            f"--host {visible(host, 300)} lets other machines connect: without TLS, everyone between them could read the page. Leave "
            "it out and let ssh forward the port (ssh -L 8700:127.0.0.1:8700), or give a certificate with --tls-cert and --tls-key"
        )
    context = None if tls is None else _context(*tls)
    if address.is_unspecified:
        shown_as = socket.gethostname().lower()
    else:
        shown_as = f"[{host}]" if ":" in host else host.lower()
    bound = _bound(family, str(found), port)
    origin = f"{'http' if context is None else 'https'}://{shown_as if address.is_loopback else (*more, shown_as)[0]}"
    return Listener(bound, f"{origin}:{bound.getsockname()[1]}", frozenset((*LOOPBACK, shown_as, *more)), context)


def _checked(name: str) -> str:
    """Return a name as it stands in ``Host``: never a pattern."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        if _NAME.fullmatch(name) is None:
            raise CannotListen(
                f"--allow-host {visible(name, 300)!r} is no name of a machine: leave out scheme, port and path"
            ) from None
        return name.lower()
    return f"[{address}]" if address.version == 6 else str(address)


def _bound(family: int, address: str, port: int | None) -> socket.socket:
    """Return a socket that listens on that port, or else on the usual one if it is free."""
    is_dual = address == "::" and socket.has_dualstack_ipv6()

    def bound(number: int) -> socket.socket:
        return socket.create_server((address, number), family=family, dualstack_ipv6=is_dual)

    try:
        try:
            return bound(_PORT if port is None else port)
        except OSError:
            if port is not None:
                raise
            return bound(0)
    except OSError as error:
        raise CannotListen(
            f"port {port or 'of any number'} of {visible(address, 300)} can't be listened on: {reason(error)}; choose another one "
            "with --port, or an address of this machine with --host"
        ) from error


# ---- TLS ---------------------------------------------------------------------------------------------------------


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return what speaks TLS with a certificate and its key."""
    text = _read("--tls-cert", certificate)
    _read("--tls-key", key)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(
            cadata=text
        )  # OpenSSL doesn't say which of the two files it can't use
    except (ssl.SSLError, ValueError):
        raise CannotListen(f"--tls-cert: {shown(certificate)} isn't a certificate in PEM format") from None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)

    def refuse() -> NoReturn:  # OpenSSL would ask in the terminal
        raise CannotListen(
            f"--tls-key: {shown(key)} needs a passphrase; make a copy without one that only you can read"
        )

    try:
        context.load_cert_chain(certificate, key, refuse)
    except ssl.SSLError as error:
        if "MISMATCH" in (error.reason or ""):
            raise CannotListen(
                f"--tls-key: {shown(key)} isn't the key of the certificate in {shown(certificate)}"
            ) from None
        raise CannotListen(
            f"--tls-key: {shown(key)} isn't a private key in PEM format that fits the certificate"
        ) from error
    return context


def _read(option: str, path: Path) -> str:
    """Return the ASCII in a file; comments in a PEM file may have other characters."""
    try:
        return path.read_text("ascii", "ignore")
    except (OSError, ValueError) as error:  # a name with a null character
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise CannotListen(f"{option}: {shown(path)} can't be read: {why}") from error
