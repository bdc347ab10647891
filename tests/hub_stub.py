"""A hub on loopback, with what uploading and downloading the small files of a model need."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0" * 40
TOKEN = "hf_" + "x" * 34


class Hub(ThreadingHTTPServer):
    """Repositories as their files by path. Writing needs ``TOKEN``, and so does reading one whose owner is private."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.repos: dict[str, dict[str, bytes]] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if not self._knows_token():
            self._say({"error": "Invalid credentials"}, 401)
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
            self.server.repos.setdefault(repo, {})
            self._say({"url": f"{self.server.address}/{repo}", "name": repo, "id": repo})
        elif "/preupload/" in self.path:
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            self._say({"files": [{**file, "shouldIgnore": False, "oid": None} for file in files]})
        elif "/commit/" in self.path:
            self._commit(body)
        else:
            self._say({})

    def _commit(self, body: bytes) -> None:
        repo = self._repo()
        for item in map(json.loads, body.splitlines()):
            if item["key"] == "file":
                self.server.repos[repo][item["value"]["path"]] = base64.b64decode(item["value"]["content"])
        self._say({"commitUrl": f"https://huggingface.co/{repo}/commit/{COMMIT}", "commitOid": COMMIT})

    def do_GET(self) -> None:
        repo, name = self._repo(), self.path.split("?")[0].partition("/resolve/")[2].partition("/")[2]
        hidden = repo.startswith("private/") and not self._knows_token()
        if repo not in self.server.repos or hidden:
            self._say({"error": "Repository not found"}, 401, [("x-error-code", "RepoNotFound")])
            return
        files = self.server.repos[repo]
        if name in files:
            etag = f'"{hashlib.sha1(files[name]).hexdigest()}"'
            self._say(files[name], headers=[("etag", etag), ("x-repo-commit", COMMIT)])
        elif "/resolve/" in self.path:
            self._say({"error": "Entry not found"}, 404, [("x-error-code", "EntryNotFound")])
        elif "/tree/" in self.path:
            self._say([{"type": "file", "path": path, "size": len(data), "oid": path} for path, data in files.items()])
        else:
            siblings = [{"rfilename": path} for path in files]
            self._say({"id": repo, "sha": COMMIT, "siblings": siblings, "private": False})

    do_HEAD = do_GET

    def _repo(self) -> str:
        words = self.path.split("?")[0].removeprefix("/api/models").strip("/").split("/")
        return "/".join(words[:2])

    def _knows_token(self) -> bool:
        return self.headers.get("authorization") == f"Bearer {TOKEN}"

    def _say(self, value: Any, code: int = 200, headers: Sequence[tuple[str, str]] = ()) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(code)
        for name, text in [*headers, ("content-length", str(len(data)))]:
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def running() -> Iterator[Hub]:
    """A hub that answers within the block."""
    hub = Hub()
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
