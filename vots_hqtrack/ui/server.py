"""Starts the web server of ``hqtrack ui``."""

from __future__ import annotations

import http.cookies
import ipaddress
import secrets
import urllib.parse
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from vots_hqtrack.extras import missing_extra

if TYPE_CHECKING:
    from vots_hqtrack.ui.workspace import Workspace

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
_COOKIE = "hqtrack-token"


def serve(
    workspace: Workspace,
    *,
    host: str,
    port: int,
    open_browser: bool,
    report: Callable[[str], None],
) -> None:
    """Serve the page until the process is stopped.

    Args:
        workspace: State that all tabs share.
        host: Address to listen on. On another one than loopback the page asks for a token.
        port: Port to listen on.
        open_browser: Open the page in the user's browser.
        report: Called with the page's address.

    Raises:
        ConfigError: The extra ``ui`` is not installed.
    """
    try:
        from nicegui import app, ui
    except ImportError as error:
        raise missing_extra("hqtrack ui", "ui", error) from error
    from vots_hqtrack.ui.page import add_pages

    query = ""
    if not is_loopback(host):
        token = secrets.token_urlsafe(16)
        app.add_middleware(TokenGuard, token=token)
        query = f"/?token={token}"
    add_pages(workspace)
    shown = f"[{host}]" if ":" in host else host
    app.on_startup(lambda: report(f"http://{shown}:{port}{query}"))
    app.on_shutdown(workspace.close)
    ui.run(
        host=host,
        port=port,
        title="HQTrack",
        dark=True,
        reload=False,
        show=query or open_browser if open_browser else False,
        show_welcome_message=False,
        favicon="🎯",
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address.

    Example:
        >>> is_loopback("localhost"), is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
        (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class TokenGuard:
    """Lets only requests with the token through: in the address first, then in a cookie.

    Args:
        app: The application behind it.
        token: The token.
    """

    def __init__(self, app: App, token: str) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        query = urllib.parse.parse_qs(scope["query_string"].decode("latin-1"))
        given = query.get("token", [""])[0]
        cookies = http.cookies.SimpleCookie(
            dict(scope["headers"]).get(b"cookie", b"").decode("latin-1")
        )
        kept = cookies[_COOKIE].value if _COOKIE in cookies else ""
        if secrets.compare_digest(kept.encode(), self._token.encode()):
            await self._app(scope, receive, send)
        elif secrets.compare_digest(given.encode(), self._token.encode()):
            await self._app(scope, receive, self._with_cookie(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            text = b"Open the address with ?token=... that hqtrack ui has printed."
            await send({"type": "http.response.body", "body": text})

    def _with_cookie(self, send: Send) -> Send:
        async def wrapped(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                cookie = f"{_COOKIE}={self._token}; HttpOnly; SameSite=Strict; Path=/"
                message["headers"] = [*message.get("headers", []), (b"set-cookie", cookie.encode())]
            await send(message)

        return wrapped
