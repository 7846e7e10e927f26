"""A small hub on this machine: the endpoints that downloads and uploads of a model use."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from file_server import QuietHandler, listen


@dataclass
class Hub:
    """Content of the hub, and the requests so far.

    Attributes:
        address: Its address, without a slash at the end.
        models: Files by model and name; all are of the branch main.
        private: Models that only a token opens.
        status: Status of every answer instead; 0 answers properly.
        asked: Method and path of each request so far.
    """

    address: str = ""
    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    status: int = 0
    asked: list[str] = field(default_factory=list)

    def commit(self, model: str) -> str:
        digest = hashlib.sha1(usedforsecurity=False)
        for name, content in sorted(self.models[model].items()):
            digest.update(name.encode())
            digest.update(content)
        return digest.hexdigest()


@contextlib.contextmanager
def serve_hub() -> Iterator[Hub]:
    """Run a hub for the time of a ``with`` block."""
    hub = Hub()

    class Handler(QuietHandler, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _read(self, hub)

        def do_HEAD(self) -> None:
            _read(self, hub)

        def do_POST(self) -> None:
            _write(self, hub)

    with listen(Handler) as hub.address:
        yield hub


def _read(handler: BaseHTTPRequestHandler, hub: Hub) -> None:
    path = urlsplit(handler.path).path
    hub.asked.append(f"{handler.command} {path}")
    parts = path.strip("/").split("/")
    is_api = parts[:2] == ["api", "models"]
    owner, name, kind, revision, *rest = [*(parts[2:] if is_api else parts), "", "", "", "", ""][
        :20
    ]
    model, file = f"{owner}/{name}", "/".join(part for part in rest if part)
    if hub.status:
        return _send(handler, hub.status, {"X-Error-Message": "the hub is being repaired"})
    is_hidden = model in hub.private and not handler.headers.get("Authorization")
    if model not in hub.models or is_hidden:
        return _send(handler, 401, {"X-Error-Code": "RepoNotFound"})
    commit, files = hub.commit(model), hub.models[model]
    if revision not in ("main", commit):
        return _send(handler, 404, {"X-Error-Code": "RevisionNotFound"})
    if is_api and kind == "revision":
        return _send_json(handler, {"id": model, "sha": commit, "siblings": []})
    if is_api and kind == "tree":
        sizes = {key: len(content) for key, content in files.items()}
        oids = {key: hashlib.sha256(content).hexdigest() for key, content in files.items()}
        rows = [
            {"type": "file", "path": key, "size": size, "oid": oids[key][:40]}
            for key, size in sizes.items()
        ]
        return _send_json(handler, rows)
    if kind != "resolve" or file not in files:
        return _send(handler, 404, {"X-Error-Code": "EntryNotFound"})
    digest = hashlib.sha256(files[file]).hexdigest()
    headers = {"X-Repo-Commit": commit, "ETag": f'"{digest[:40]}"'}
    return _send(handler, 200, headers, files[file])


def _write(handler: BaseHTTPRequestHandler, hub: Hub) -> None:
    hub.asked.append(f"POST {handler.path}")
    body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
    parts = urlsplit(handler.path).path.strip("/").split("/")
    if hub.status:
        return _send(handler, hub.status, {"X-Error-Message": "the hub is being repaired"})
    if not handler.headers.get("Authorization"):
        return _send(handler, 401, {"X-Error-Message": "Invalid username or password."})
    if parts == ["api", "repos", "create"]:
        wanted = json.loads(body)
        model = f"{wanted.get('organization', 'me')}/{wanted['name']}"
        hub.models.setdefault(model, {})
        return _send_json(handler, {"url": f"{hub.address}/{model}", "name": model})
    if parts[-2] == "preupload":
        files = [
            {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
            for file in json.loads(body)["files"]
        ]
        return _send_json(handler, {"files": files})
    if parts[-2] == "commit":
        model = "/".join(parts[2:4])
        for line in body.splitlines():
            step = json.loads(line)
            if step["key"] == "file":
                content = base64.b64decode(step["value"]["content"])
                hub.models[model][step["value"]["path"]] = content
        url = f"{hub.address}/{model}/commit/{hub.commit(model)}"
        return _send_json(handler, {"commitUrl": url, "commitOid": hub.commit(model)})
    return _send_json(handler, {"errors": [], "warnings": []})


def _send_json(handler: BaseHTTPRequestHandler, content: object) -> None:
    body = json.dumps(content).encode()
    _send(handler, 200, {"Content-Type": "application/json"}, body)


def _send(
    handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes = b""
) -> None:
    handler.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command != "HEAD":
        with contextlib.suppress(OSError):  # a client that has enough hangs up
            handler.wfile.write(body)
