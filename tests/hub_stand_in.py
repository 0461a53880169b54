"""A Hub on loopback: what huggingface_hub and datasets ask of the real one, with rights, history and faults.

Every commit's files are kept, so `revision=` works. Three tokens exist: `WRITE` and `READ` of the user `user`, who is
in the organisation `org`, and `STRANGER` of another user. `hub.environment()` is for child processes, since the address
is read when huggingface_hub is imported; the fixture `hub` of conftest.py points this process's own modules at it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import urllib.parse
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

WRITE, READ, STRANGER = "hf_" + "writeSecret" * 3, "hf_" + "readSecret" * 3, "hf_" + "strangeSecret" * 3
USERS = {WRITE: ("user", "write"), READ: ("user", "read"), STRANGER: ("stranger", "write")}
ORGANISATIONS = {"user": ["org"], "stranger": []}
LARGE = (".parquet", ".arrow", ".bin", ".safetensors", ".npy", ".png")
PREFIX = {"model": "", "dataset": "datasets/", "space": "spaces/"}


@dataclass
class Commit:
    """A state of a repository."""

    oid: str
    title: str
    description: str
    files: dict[str, bytes]


@dataclass
class Repo:
    """A repository: its visibility and all its states, oldest first."""

    private: bool
    commits: list[Commit] = field(default_factory=list)

    @property
    def head(self) -> Commit:
        return self.commits[-1]

    def at(self, revision: str) -> Commit | None:
        if revision in ("main", "refs/heads/main", "HEAD"):
            return self.head
        return next((c for c in self.commits if c.oid == revision), None)


class HubStandIn:
    """A Hub. As a context it serves on `url` until it ends.

    `requests` lists what was asked, `(method, path)`. Faults, until they are taken back: `break_upload=n` cuts the
    connection in the middle of the n-th upload of a large file and all later ones; `break_commit` is a status such as
    500, `"before"` (the connection ends and nothing was done) or `"after"` (done, but nobody hears of it).
    `meanwhile` is called once, before the next commit is looked at.
    """

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.sent: list[bytes] = []  # every body that was received
        self.uploads = 0
        self.break_upload: int | None = None
        self.break_commit: int | str | None = None
        self.meanwhile = None
        self.lock = threading.RLock()

    def __enter__(self) -> HubStandIn:
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def environment(self, home: object, token: str | None = WRITE) -> dict[str, str]:
        """What a child process needs in its environment to talk to this Hub, with a home of its own."""
        named = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": token or ""}
        quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        return named | quiet | {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}

    def make(self, repo_id: str, files: dict[str, bytes], *, kind: str = "dataset", private: bool = False) -> str:
        """Put a repository there, or another commit on it, from outside; the commit's name."""
        with self.lock:
            repo = self.repos.setdefault((kind, repo_id), Repo(private, [Commit(_oid(), "initial commit", "", {})]))
            repo.commits.append(Commit(_oid(), "from outside", "", repo.head.files | files))
            return repo.head.oid

    def files(self, repo_id: str, kind: str = "dataset") -> dict[str, bytes]:
        """The files of a repository as they are now."""
        return self.repos[kind, repo_id].head.files


_made = [0]


def _oid() -> str:
    _made[0] += 1
    return hashlib.sha1(f"commit {_made[0]}".encode()).hexdigest()


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Refused(Exception):
    def __init__(self, status: int, message: str, code: str = "", **more: object) -> None:
        self.status, self.message, self.code, self.more = status, message, code, more


class _Handler(BaseHTTPRequestHandler):
    hub: HubStandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def handle_any(self) -> None:
        hub, url = self.hub, urllib.parse.urlsplit(self.path)
        self.query = urllib.parse.parse_qs(url.query)
        path = urllib.parse.unquote(url.path)
        hub.requests.append((self.command, path))
        try:
            if self.command == "PUT" and (found := re.fullmatch("/upload/([0-9a-f]{64})", path)):
                return self.upload(found[1])
            self.body = self.read()
            hub.sent.append(self.body)
            with hub.lock:
                self.answer(path)
        except _Refused as refused:
            head = {"X-Error-Message": refused.message} | ({"X-Error-Code": refused.code} if refused.code else {})
            self.send(refused.status, {"error": refused.message, **refused.more}, head)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = handle_any

    def read(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def send(self, status: int, body: object = b"", head: dict[str, str] | None = None) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream" if isinstance(body, bytes) else "application/json")
        self.send_header("Content-Length", str(len(raw)))
        for name, value in (head or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()

    def upload(self, oid: str) -> None:
        """A large file's content. As on the real Hub it carries no token: the address is the permission."""
        self.hub.uploads += 1
        if self.hub.break_upload is not None and self.hub.uploads >= self.hub.break_upload:
            self.rfile.read(10)
            return self.hang_up()
        content = self.read()
        if hashlib.sha256(content).hexdigest() != oid:
            raise _Refused(400, "the content is not what was announced")
        self.hub.blobs[oid] = content
        self.send(200)

    # who is asking, and what may they

    def user(self) -> tuple[str, str] | None:
        words = self.headers.get("Authorization", "").split()
        if len(words) < 2:
            return None
        if words[1] not in USERS:
            raise _Refused(401, "Invalid credentials in Authorization header")
        return USERS[words[1]]

    def may_write(self, namespace: str) -> None:
        who = self.user()
        if who is None:
            raise _Refused(401, "Invalid username or password.")
        if who[1] != "write":
            raise _Refused(403, "Forbidden: you must use a write token to upload to a repository.")
        if namespace != who[0] and namespace not in ORGANISATIONS[who[0]]:
            raise _Refused(403, f'You don\'t have the rights to create a repo under the namespace "{namespace}"')

    def repo(self, kind: str, repo_id: str, *, write: bool = False) -> Repo:
        who, namespace = self.user(), repo_id.split("/")[0]
        found = self.hub.repos.get((kind, repo_id))
        hidden = found is not None and found.private
        if hidden and who is not None and namespace in (who[0], *ORGANISATIONS[who[0]]):
            hidden = False
        if found is None or hidden:
            raise _Refused(401 if who is None else 404, "Repository not found", "RepoNotFound")
        if write:
            self.may_write(namespace)
        return found

    # the routes

    def answer(self, path: str) -> None:
        hub = self.hub
        if path == "/api/whoami-v2":
            who = self.user()
            if who is None:
                raise _Refused(401, "Invalid username or password.")
            orgs = [{"name": name, "type": "org", "roleInOrg": "write"} for name in ORGANISATIONS[who[0]]]
            token = {"accessToken": {"role": who[1], "displayName": "a token"}, "type": "access_token"}
            return self.send(200, {"name": who[0], "type": "user", "orgs": orgs, "auth": token})
        if path == "/api/validate-yaml":
            return self.send(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self.create(json.loads(self.body))
        if found := re.fullmatch(r"/(?:(dataset|space)s/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            self.repo(found[1] or "model", found[2], write=True)
            objects = json.loads(self.body)["objects"]
            todo = {o["oid"]: {"upload": {"href": f"{hub.url}/upload/{o['oid']}"}} for o in objects}
            made = [o if o["oid"] in hub.blobs else {**o, "actions": todo[o["oid"]]} for o in objects]
            return self.send(200, {"transfer": "basic", "objects": made})
        if found := re.fullmatch(r"/(?:(dataset|space)s/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self.resolve(found[1] or "model", *found.groups()[1:])
        if found := re.fullmatch(
            r"/api/(dataset|model|space)s/([^/]+/[^/]+)(?:/([^/]+)(?:/([^/]+)(?:/(.*))?)?)?", path
        ):
            return self.repo_route(*found.groups())
        raise _Refused(404, f"no such route: {path}")

    def create(self, asked: dict) -> None:
        namespace = asked.get("organization") or (self.user() or ("",))[0]
        kind, repo_id = asked.get("type", "model"), f"{namespace}/{asked['name']}"
        self.may_write(namespace)
        url = f"{self.hub.url}/{PREFIX[kind]}{repo_id}"
        if (kind, repo_id) in self.hub.repos:
            raise _Refused(409, f"You already created this {kind} repo", url=url, name=repo_id, id=repo_id)
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        first = {".gitattributes": b"*.parquet filter=lfs diff=lfs merge=lfs -text\n"}
        self.hub.repos[kind, repo_id] = Repo(private, [Commit(_oid(), "initial commit", "", first)])
        self.send(200, {"url": url, "name": repo_id, "id": repo_id})

    def repo_route(self, kind: str, repo_id: str, what: str | None, revision: str | None, rest: str | None) -> None:
        repo = self.repo(kind, repo_id, write=what in ("preupload", "commit"))
        if what == "auth-check":
            if revision == "write":
                self.may_write(repo_id.split("/")[0])
            return self.send(200, {})
        if what == "refs":
            main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.head.oid}
            return self.send(200, {"branches": [main], "tags": [], "converts": []})
        state = repo.at(revision or "main")
        if state is None:
            raise _Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        if what in (None, "revision"):
            return self.send(200, self.info(repo_id, repo, state))
        if what == "commits":
            past = [c for c in reversed(repo.commits) if repo.commits.index(c) <= repo.commits.index(state)]
            rows = [{"id": c.oid, "title": c.title, "message": c.description, "authors": [], "date": NOW} for c in past]
            return self.send(200, rows)
        if what == "preupload":
            return self.send(200, {"files": [self.mode(f["path"], state) for f in json.loads(self.body)["files"]]})
        if what == "commit":
            return self.commit(kind, repo_id, repo)
        if what == "paths-info":
            paths = self.form()["paths"]
            there = [_entry(p, state.files[p]) for p in paths if p in state.files]
            folders = [p for p in paths if any(name.startswith(p.rstrip("/") + "/") for name in state.files)]
            return self.send(200, [*there, *map(_folder, folders)])
        if what == "tree":
            return self.tree(state, (rest or "").strip("/"))
        raise _Refused(404, f"no such route: {what}")

    def form(self) -> dict[str, list[str]]:
        if self.body.startswith(b"{"):
            found = json.loads(self.body)
            return {k: [v] if isinstance(v, str) else v for k, v in found.items()}
        return urllib.parse.parse_qs(self.body.decode())

    def info(self, repo_id: str, repo: Repo, state: Commit) -> dict:
        named = {"_id": "x", "id": repo_id, "author": repo_id.split("/")[0], "sha": state.oid, "private": repo.private}
        rest = {"gated": False, "disabled": False, "tags": [], "downloads": 0, "likes": 0}
        files = [{"rfilename": name} for name in state.files]
        card = _front_matter(state.files.get("README.md", b""))
        return named | rest | {"lastModified": NOW, "createdAt": NOW, "siblings": files, "cardData": card}

    @staticmethod
    def mode(path: str, state: Commit) -> dict:
        large, there = path.endswith(LARGE), state.files.get(path)
        oid = None if there is None else hashlib.sha256(there).hexdigest() if large else _git_oid(there)
        return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid}

    def commit(self, kind: str, repo_id: str, repo: Repo) -> None:
        hub = self.hub
        if hub.meanwhile is not None:
            first, hub.meanwhile = hub.meanwhile, None
            first()
        if hub.break_commit == "before":
            return self.hang_up()
        if isinstance(hub.break_commit, int):
            raise _Refused(hub.break_commit, "Internal Error - We're working hard to fix this as soon as possible!")
        files, head = dict(repo.head.files), {}
        for line in self.body.splitlines():
            key, value = json.loads(line)["key"], json.loads(line)["value"]
            if key == "header":
                head = value
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                if value["oid"] not in hub.blobs:
                    raise _Refused(400, f"the content of {value['path']} was not uploaded")
                files[value["path"]] = hub.blobs[value["oid"]]
            elif key == "deletedFile":
                if files.pop(value["path"], None) is None:
                    raise _Refused(400, f"{value['path']} does not exist")
            elif key == "deletedFolder":
                files = {n: f for n, f in files.items() if not n.startswith(value["path"].rstrip("/") + "/")}
        if head.get("parentCommit", repo.head.oid) != repo.head.oid:
            raise _Refused(412, "A commit has happened since. Please refresh and try again.")
        repo.commits.append(Commit(_oid(), head["summary"], head.get("description", ""), files))
        if hub.break_commit == "after":
            return self.hang_up()
        url = f"{hub.url}/{PREFIX[kind]}{repo_id}/commit/{repo.head.oid}"
        self.send(200, {"success": True, "commitOid": repo.head.oid, "commitUrl": url, "hookOutput": ""})

    def tree(self, state: Commit, under: str) -> None:
        deep = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        start = f"{under}/" if under else ""
        inside = [name.removeprefix(start) for name in state.files if name.startswith(start)]
        if under and not inside:
            raise _Refused(404, f"{under} does not exist on this revision", "EntryNotFound")
        files = [name for name in inside if deep or "/" not in name]
        folders = {"/".join(n.split("/")[:i]) for n in inside for i in range(1, len(n.split("/"))) if deep or i == 1}
        listed = [_entry(start + name, state.files[start + name]) for name in files]
        self.send(200, [*listed, *(_folder(start + name) for name in sorted(folders))])

    def resolve(self, kind: str, repo_id: str, revision: str, path: str) -> None:
        state = self.repo(kind, repo_id).at(revision)
        if state is None:
            raise _Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        if path not in state.files:
            raise _Refused(404, "Entry not found", "EntryNotFound")
        content = state.files[path]
        oid = hashlib.sha256(content).hexdigest() if path.endswith(LARGE) else _git_oid(content)
        head = {"ETag": f'"{oid}"', "X-Repo-Commit": state.oid, "Accept-Ranges": "bytes"}
        if found := re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first = int(found[1])
            last = min(int(found[2] or len(content)), len(content) - 1)
            head["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            return self.send(206, content[first : last + 1], head)
        self.send(200, content, head)


NOW = "2026-01-01T00:00:00.000Z"


def _entry(path: str, content: bytes) -> dict:
    entry = {"type": "file", "path": path, "size": len(content), "oid": _git_oid(content)}
    if path.endswith(LARGE):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry


def _folder(path: str) -> dict:
    return {"type": "directory", "path": path, "size": 0, "oid": "0" * 40}


def _front_matter(card: bytes) -> dict:
    found = re.match(rb"---\n(.*?)\n---", card, re.DOTALL)
    try:
        return (yaml.safe_load(found[1]) or {}) if found else {}
    except yaml.YAMLError:
        return {}
