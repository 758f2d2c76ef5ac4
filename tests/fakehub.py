"""A model hub on this machine: the few routes that huggingface_hub takes to read a repository and to commit to it."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


class FakeHub:
    """Repositories in memory; `refuse` is the text of the error that every commit gets, `requests` what was asked."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.sizes: dict[str, int] = {}  # by file name: what is claimed in place of the truth
        self.refuse = ""
        self.requests: list[str] = []
        self.created: list[dict[str, Any]] = []
        self.private: set[str] = set()

    def commit(self, repo: str) -> str:
        """The name of a repository's state: another one after each change."""
        return hashlib.sha1(repr(sorted(self.files[repo].items())).encode()).hexdigest()

    def take(self, repo: str, lines: str) -> None:
        for line in map(json.loads, lines.splitlines()):
            if line["key"] == "file":
                self.files[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def answer(self, body: bytes | Any, status: int = 200, **headers: str) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for key, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(key.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append(f"{self.command} {path}")
            if path.startswith("/api/models/"):
                repo = "/".join(path.split("/")[3:5])
                if repo not in hub.files:
                    return self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
                if "/tree/" in path:
                    rows = [(n, len(d), hashlib.sha1(d).hexdigest()) for n, d in hub.files[repo].items()]
                    return self.answer([{"type": "file", "path": n, "size": s, "oid": o} for n, s, o in rows])
                siblings = [{"rfilename": n, "size": hub.sizes.get(n, len(d))} for n, d in hub.files[repo].items()]
                private = repo in hub.private
                return self.answer({"id": repo, "sha": hub.commit(repo), "siblings": siblings, "private": private})
            if path.count("/") < 5:  # what clients ask a hub about itself, once
                return self.answer({"error": "Not found"}, 404)
            org, name, _, commit, *rest = path[1:].split("/")  # org/name/resolve/commit/file
            repo, file = f"{org}/{name}", "/".join(rest)
            if file not in hub.files.get(repo, {}) or commit != hub.commit(repo):
                return self.answer({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound")
            data = hub.files[repo][file]
            return self.answer(data, ETag=f'"{hashlib.sha1(data).hexdigest()}"', X_Repo_Commit=commit)

        do_HEAD = do_GET

        def do_POST(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append(f"{self.command} {path}")
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if path == "/api/validate-yaml":
                return self.answer({"errors": [], "warnings": []})
            if path == "/api/repos/create":
                asked = json.loads(text)
                hub.created.append(asked)
                repo = f"{asked['organization']}/{asked['name']}"
                if repo not in hub.files and (asked.get("private") or asked.get("visibility") == "private"):
                    hub.private.add(repo)
                hub.files.setdefault(repo, {})
                return self.answer({"url": f"http://{self.headers['Host']}/{repo}", "id": repo, "name": repo})
            repo = "/".join(path.split("/")[3:5])
            if "/preupload/" in path:
                asked = json.loads(text)["files"]
                return self.answer(
                    {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]}
                )
            if hub.refuse:
                return self.answer({"error": hub.refuse}, 403, X_Error_Message=hub.refuse)
            hub.take(repo, text)
            oid = hub.commit(repo)
            url = f"http://{self.headers['Host']}/{repo}/commit/{oid}"
            return self.answer({"success": True, "commitOid": oid, "commitUrl": url})

    return Handler


@contextmanager
def serving() -> Iterator[tuple[FakeHub, str]]:
    """The hub and its address while it runs."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
