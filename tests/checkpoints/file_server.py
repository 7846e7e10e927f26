"""A small HTTP server on this machine that misbehaves on request."""

from __future__ import annotations

import contextlib
import hashlib
import re
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """Behaviour of the server, and the requests so far.

    Attributes:
        address: Its address, without a slash at the end.
        content: The file at every path.
        tag: Its entity tag, or empty.
        has_ranges: False ignores headers that ask for a part.
        knows_if_range: False sends a part even of another version.
        cuts: For each answer in turn, after how many bytes of the body the line is cut.
        statuses: For each request in turn, an error status to answer with instead.
        headers: More headers of every answer.
        redirect: Address that the first path, ``/moved``, sends on to.
        redirect_headers: Headers of that answer.
        reason: Reason phrase of error statuses.
        declared: Length to declare instead of the true one; 0 declares none.
        asked: Path and range of each request so far.
    """

    address: str = ""
    content: bytes = b""
    tag: str = '"first"'
    has_ranges: bool = True
    knows_if_range: bool = True
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    redirect: str = ""
    redirect_headers: dict[str, str] = field(default_factory=dict)
    reason: str | None = None
    declared: int | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


class QuietHandler:
    """Keeps connections open, and prints nothing."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def listen(
    handler: type[BaseHTTPRequestHandler], secure: ssl.SSLContext | None = None
) -> Iterator[str]:
    """Answer requests by a handler for the time of a ``with`` block; gives the address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if secure:
            server.socket = secure.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http{'s' if secure else ''}://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def serve(content: bytes, secure: ssl.SSLContext | None = None) -> Iterator[FileServer]:
    """Run a server for the time of a ``with`` block; over https with a context of TLS."""
    facts = FileServer(content=content)

    class Handler(QuietHandler, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(self, facts)

    with listen(Handler, secure) as facts.address:
        yield facts


def _answer(handler: BaseHTTPRequestHandler, facts: FileServer) -> None:
    wanted = handler.headers.get("Range", "")
    facts.asked.append((handler.path, wanted))
    handler.close_connection = True
    if facts.statuses:
        _send(
            handler, facts.statuses.pop(0), {"Content-Length": "0", **facts.headers}, facts.reason
        )
        return
    if facts.redirect and handler.path.startswith("/moved"):
        _send(handler, 302, {"Location": facts.redirect, **facts.redirect_headers})
        return
    found = re.fullmatch(r"bytes=(\d+)-", wanted)
    same = not facts.knows_if_range or handler.headers.get("If-Range", facts.tag) == facts.tag
    start = int(found[1]) if found and facts.has_ranges and same else 0
    total = len(facts.content)
    headers = {**facts.headers}
    if facts.declared != 0:
        headers["Content-Length"] = str(facts.declared or total - start)
    if facts.tag:
        headers["ETag"] = facts.tag
    if start:
        headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
    _send(handler, 206 if start else 200, headers)
    body = facts.content[start:]
    if facts.cuts:
        body = body[: facts.cuts.pop(0)]
    with contextlib.suppress(OSError):  # a client that refuses hangs up
        handler.wfile.write(body)


def _send(
    handler: BaseHTTPRequestHandler,
    status: int,
    headers: dict[str, str],
    reason: str | None = None,
) -> None:
    handler.send_response(status, reason)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Connection", "close")
    handler.end_headers()
