"""One HTTP request for a file or the rest of it, and what the answer says of the file."""

from __future__ import annotations

import contextlib
import http
import http.client
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from typing import IO

import vots_hqtrack
from vots_hqtrack.errors import WeightsError

SILENCE = 30.0
"""Seconds without a byte after which a connection counts as cut."""
_CHUNK_BYTES = 1 << 18
_COMES_BACK = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which it is worth to try again."""
_SHA256 = re.compile(r'"?([0-9a-f]{64})"?')
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


class TryAgainError(Exception):
    """The request failed in a way that may pass.

    Args:
        reason: What happened.
        seconds: How long the server wants us to wait, or 0 if it does not say.
        is_stale: True if the file has no rest from the byte that was asked for.
    """

    def __init__(self, reason: str, seconds: float = 0.0, *, is_stale: bool = False) -> None:
        super().__init__(reason)
        self.seconds = seconds
        self.is_stale = is_stale


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server says of a file.

    Attributes:
        url: The address that was asked.
        start: Number of the first byte that comes.
        total: Bytes of the whole file, or None.
        tag: The version's strong entity tag; empty if there is none.
        sha256: Hash of the whole file if the Hugging Face hub names it, else empty.
    """

    url: str
    start: int
    total: int | None
    tag: str
    sha256: str

    def continues(self, before: Answer) -> bool:
        """Tell whether this is the rest of the file that an earlier answer began."""
        same = (self.total, self.tag) == (before.total, before.tag)
        return same and self.sha256 == before.sha256


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from https to something less; keeps the headers of each answer.

    The hub names a file's hash only in the answer that sends us on to its storage.
    """

    def __init__(self) -> None:
        self.linked = ""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the request that the answer sends us on to; called by the library."""
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme != "https" and req.type == "https":
            fp.close()
            raise WeightsError(f"{req.full_url} sends us on to {newurl}, which is not followed")
        self.linked = _linked_sha256(headers) or self.linked
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextlib.contextmanager
def open_url(url: str, *, start: int, tag: str) -> Iterator[tuple[Answer, Iterator[bytes]]]:
    """Ask for a file from some byte on.

    Args:
        url: Its address.
        start: The first byte wanted; the server may send the whole file all the same.
        tag: Entity tag of the version that the bytes before ``start`` are of, or empty.

    Yields:
        What the server says, and the bytes in pieces. Reading raises TryAgainError where the line
        is cut with an error; a body that ends too early is for the caller to notice.

    Raises:
        TryAgainError: It failed in a way that may pass.
        WeightsError: It failed for good.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise WeightsError(f"wanted an address that begins with http:// or https://, got {url!r}")
    request = urllib.request.Request(url)  # noqa: S310 - the scheme was checked
    request.add_header("User-Agent", f"vots_hqtrack/{vots_hqtrack.__version__}")
    request.add_header("Accept-Encoding", "identity")
    if start:
        request.add_header("Range", f"bytes={start}-")
        if tag:
            request.add_header("If-Range", tag)
    redirects = Redirects()
    try:
        response = urllib.request.build_opener(redirects).open(request, timeout=SILENCE)
    except urllib.error.HTTPError as error:
        with error:
            raise _explain_status(url, error) from error
    except (OSError, http.client.HTTPException) as error:
        raise _explain_failure(url, error) from error
    with response:
        yield _read_headers(url, response, redirects.linked), _blocks(response)


def _blocks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            block = response.read(_CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise TryAgainError(f"the line was cut: {_reason(error)}") from error
        if not block:
            return
        yield block


def _read_headers(url: str, response: http.client.HTTPResponse, linked: str) -> Answer:
    headers = response.headers
    tag = headers.get("ETag", "")
    length = headers.get("Content-Length", "")
    start, total = 0, int(length) if length.isdecimal() else None
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        found = _RANGE.fullmatch(headers.get("Content-Range", ""))
        if found is None:
            raise WeightsError(
                f"{url} answers with a part, wanted a header Content-Range such as "
                f"'bytes 10-99/100', got {headers.get('Content-Range')!r}"
            )
        start, total = int(found[1]), int(found[2])
    return Answer(
        url=url,
        start=start,
        total=total,
        # Bytes may only be put together under a strong tag.
        tag=tag if tag.startswith('"') else "",
        sha256=linked or _linked_sha256(headers),
    )


def _linked_sha256(headers: Message) -> str:
    """Return the hash of a large file on the hub; small ones have another kind of tag there."""
    found = _SHA256.fullmatch(headers.get("X-Linked-Etag", ""))
    return found[1] if found else ""


def _explain_status(url: str, error: urllib.error.HTTPError) -> WeightsError | TryAgainError:
    said = f"HTTP status {error.code} {error.reason}"
    if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return TryAgainError(said, is_stale=True)
    if error.code in _COMES_BACK:
        after = error.headers.get("Retry-After", "")
        return TryAgainError(said, float(after) if after.isdecimal() else 0.0)
    if error.code in (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.GONE):
        return WeightsError(
            f"there is no file at {url} ({said}); if it has moved, give its new place by "
            "--from URL, or a file that you have by: hqtrack weights import FILE --as KIND"
        )
    return WeightsError(f"the server does not give {url}: {said}")


def _explain_failure(url: str, error: Exception) -> WeightsError | TryAgainError:
    cause = getattr(error, "reason", error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return WeightsError(f"the server of {url} cannot prove who it is: {_reason(cause)}")
    return TryAgainError(f"no connection: {_reason(cause)}")


def _reason(error: object) -> str:
    return str(error) or type(error).__name__
