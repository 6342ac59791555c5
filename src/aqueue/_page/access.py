"""Lets only those read the page, and steer its run, who have its printed address, and only as a page of their own.

A server on a loopback address can be reached by every program and every user of the machine, and, by way of the browser, by every
web site that a user visits. So:

- A request must have a name of this server in `Host`: else a site whose name is made to lead here (DNS rebinding) could read.
- It must have the cookie that the address's token was exchanged for. The token works once: who reads it later in a terminal or in the
  history of a browser has nothing. The cookie is HttpOnly and SameSite=Strict, so that other sites' requests don't have it. For a
  browser, all ports of a host are one site, and get the same cookies: so the page and its cookie are below a random path, which a
  server of another user on another port can't know.
- A browser must not say that another site has asked (`Sec-Fetch-Site`).
- Nothing but what is below `control/` takes a POST, and only with `--control`. A browser must then say that the page itself has asked
  (`Sec-Fetch-Site`, `Origin`), and what is sent must be JSON, which no form of another site can send.
- All answers have a policy under which nothing but the page's own files runs or loads, and no site may frame the page.
"""

import hmac
import re
import secrets
from collections import deque
from collections.abc import Collection, Iterable
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["CONTROL", "ENTER", "Access", "Keys"]

ENTER: Final = "/enter"

CONTROL: Final = "/control/"
"""Below which commands are given."""

_COOKIE: Final = "aqueue"
_MAX_COOKIES: Final = 100
_MAX_TOKENS: Final = 20

_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_NO_COOKIE: Final = (
    "This browser may not read the page yet. Open the address that `aqueue serve` has printed; it works once. Press Enter in its terminal "
    "for a new one.\n"
)
_USED: Final = "This address was used before, or is of another server. Press Enter in the terminal of `aqueue serve` for a new one.\n"
_OTHER_HOST: Final = "The page isn't served under this name. If the name is one of its own, start `aqueue serve` with --allow-host NAME.\n"
_CROSS_SITE: Final = "This page can't be read by other sites.\n"
_NOT_BY_PAGE: Final = "Only the page itself can give commands.\n"
_READ_ONLY: Final = "Only GET and HEAD are answered here.\n"
_NO_JSON: Final = "A command is JSON: Content-Type must be application/json.\n"

# A page rather than a redirect: if another site has a link to an address, a browser sends no SameSite=Strict cookie for it, nor for
# what it redirects to, but does for what this page leads to.
_WELCOME: Final = '<!doctype html><html lang="en"><title>aqueue</title><meta http-equiv="refresh" content="0; url=./"><a href="./">Open the page</a>'
_ONCE_MORE: Final = '<!doctype html><html lang="en"><title>aqueue</title><meta http-equiv="refresh" content="0"><a href="">Open the page</a>'


class Keys:
    """The tokens that were printed and not used, and the cookies that they were exchanged for. Not kept on the disk."""

    def __init__(self) -> None:
        self._tokens: deque[str] = deque(maxlen=_MAX_TOKENS)  # printed by one thread, exchanged by another
        self._cookies: deque[str] = deque(maxlen=_MAX_COOKIES)

    def token(self) -> str:
        """Return a new token for one browser. Of those that nobody uses, the last 20 work."""
        token = secrets.token_urlsafe()
        self._tokens.append(token)
        return token

    def cookie_for(self, token: str) -> str | None:
        """Return the value of a cookie in exchange for `token`, which is of no use after that; None if it is none."""
        found = _find(token, self._tokens)
        if found is None:
            return None
        self._tokens.remove(found)
        cookie = secrets.token_urlsafe()
        self._cookies.append(cookie)
        return cookie

    def has_cookie(self, value: str) -> bool:
        """Return whether a cookie has one of the values that were given out."""
        return _find(value, self._cookies) is not None


def _find(value: str, known: Iterable[str]) -> str | None:
    """Return which of `known` is `value`, in a time that doesn't tell how much of it is right."""
    given = value.encode("utf-8", "replace")
    return next((one for one in tuple(known) if hmac.compare_digest(given, one.encode())), None)


class Access:
    """The middleware that does what this module says."""

    def __init__(self, app: ASGIApp, *, keys: Keys, place: str, hosts: Collection[str], can_control: bool) -> None:
        """Guard `app`.

        Parameters:
            app: what only those may read that have a cookie.
            keys: the tokens and cookies.
            place: the path below which everything is.
            hosts: what a request may name in `Host`, in lower case and without the port.
            can_control: whether commands are taken.
        """
        self._can_control = can_control
        self._keys = keys
        self._place = place
        self._hosts = hosts
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":  # the server's start and end; WebSockets are not accepted
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(Request(scope))
        answer: ASGIApp = self._app if refusal is None else refusal
        await answer(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        """Return why a request isn't answered, or the answer that gives a cookie; None if it may be answered."""
        if re.sub(r":[0-9]*\Z", "", request.headers.get("host", "").lower()) not in self._hosts:
            return PlainTextResponse(_OTHER_HOST, HTTPStatus.BAD_REQUEST)
        if request.method not in ("GET", "HEAD"):
            return self._refusal_of_command(request)
        if request.scope["path"] == self._place + ENTER and request.method == "GET":
            return self._enter(request)
        is_cross_site = request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        if is_cross_site and not _is_followed_link(request.headers):
            return PlainTextResponse(_CROSS_SITE, HTTPStatus.FORBIDDEN)
        if self._has_cookie(request):
            return None
        return HTMLResponse(_ONCE_MORE) if is_cross_site else PlainTextResponse(_NO_COOKIE, HTTPStatus.UNAUTHORIZED)

    def _refusal_of_command(self, request: Request) -> Response | None:
        is_command = request.method == "POST" and request.scope["path"].startswith(self._place + CONTROL)
        if not (self._can_control and is_command):
            return PlainTextResponse(_READ_ONLY, HTTPStatus.METHOD_NOT_ALLOWED)
        if not self._has_cookie(request):
            return PlainTextResponse(_NO_COOKIE, HTTPStatus.UNAUTHORIZED)
        if not _is_of_page(request):
            return PlainTextResponse(_NOT_BY_PAGE, HTTPStatus.FORBIDDEN)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return PlainTextResponse(_NO_JSON, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        return None

    def _has_cookie(self, request: Request) -> bool:
        # `request.cookies` unquotes all of them, which takes seconds for one that a stranger has made for that (CVE-2024-7592).
        pairs = (one.strip().partition("=") for line in request.headers.getlist("cookie") for one in line.split(";"))
        return any(self._keys.has_cookie(value) for name, _, value in pairs if name == _COOKIE)

    def _enter(self, request: Request) -> Response:
        value = self._keys.cookie_for(request.query_params.get("token", ""))
        if value is None:
            if self._has_cookie(request):
                return HTMLResponse(_WELCOME)
            return PlainTextResponse(_USED, HTTPStatus.FORBIDDEN)
        response = HTMLResponse(_WELCOME)
        secure = request.url.scheme == "https"
        response.set_cookie(_COOKIE, value, httponly=True, samesite="strict", secure=secure, path=self._place)
        return response


def _is_followed_link(headers: Headers) -> bool:
    """Return whether a person has followed a link of another page, which doesn't see what this one shows."""
    return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"


def _is_of_page(request: Request) -> bool:
    """Return whether the browser says that a page of this very server has asked; one that says nothing is too old to be trusted."""
    sites, origins = request.headers.getlist("sec-fetch-site"), request.headers.getlist("origin")
    own = f"{request.scope['scheme']}://{request.headers['host'].lower()}"  # the host is one of those that are allowed
    said = [*(site == "same-origin" for site in sites), *(origin == own for origin in origins)]
    return bool(said) and all(said)
