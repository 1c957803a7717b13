"""An Incus that only pretends: its REST API on a Unix socket, with what a real one answered.

tests/integration/test_class_incus.py runs the same engine on a real cluster.
"""

import hashlib
import json
import re
import socketserver
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Answer = tuple[int, Any]
LONG_AGO = "1970-01-01T00:00:00Z"


class RefusedError(Exception):
    """An answer that is an error."""

    def __init__(self, code: int, text: str) -> None:
        self.code, self.text = code, text
        super().__init__(text)


def _empty_project() -> dict[str, Any]:
    return {"instances": {"Limit": -1, "Usage": 0}}


@dataclass
class FakeIncus:
    """One server, or a cluster of the members m1 and m2."""

    clustered: bool = True
    lost: set[str] = field(default_factory=set)
    """Members that do not answer."""
    refuse: dict[str, str] = field(default_factory=dict)
    """{instance: why its start fails}; the instance stays, as it does in Incus."""
    busy: list[int] = field(default_factory=list)
    """Status codes that the next requests get."""
    cut_at: int = 0
    """The change after which no answer comes and nothing is heard any more; 0: none."""
    limits: dict[str, Any] = field(default_factory=_empty_project)
    instances: dict[str, dict[str, Any]] = field(default_factory=dict)
    networks: dict[str, dict[str, Any]] = field(default_factory=dict)
    acls: dict[str, dict[str, Any]] = field(default_factory=dict)
    profiles: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"default": {"name": "default", "config": {}, "devices": {}}}
    )
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    pools: list[str] = field(default_factory=lambda: ["pool"])
    changes: list[tuple[str, str, Any]] = field(default_factory=list)
    """(method, path with the query, body) of all that was to change something."""
    running: list[dict[str, Any]] = field(default_factory=list)
    """Operations that other clients have begun."""
    _operations: dict[str, Answer] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _count: int = 0

    def add_image(self, alias: str, type: str = "container") -> str:
        fingerprint = hashlib.sha256(alias.encode()).hexdigest()
        self.images[fingerprint] = {"fingerprint": fingerprint, "type": type, "properties": {}}
        self.aliases[alias] = fingerprint
        return fingerprint

    def serve(self, socket: Path) -> socketserver.UnixStreamServer:
        """Answer at a socket, in threads, until `shutdown`."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                answer = fake.answer(self.command, self.path, body, dict(self.headers))
                if answer is None:
                    self.close_connection = True
                    return
                code, content = answer
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815

            def log_message(self, *_: Any) -> None: ...

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True
            request_queue_size = 64

        server = Server(str(socket), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    # -- answers -----------------------------------------------------------------------------------
    def answer(self, method: str, url: str, body: bytes, headers: dict[str, str]) -> Answer | None:
        with self._lock:
            if self.busy:
                return self.busy.pop(0), {"type": "error", "error": "daemon is starting up"}
            parts = urlsplit(url)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            path = [unquote(part) for part in parts.path.strip("/").split("/")[1:]]
            if self.cut_at and len(self.changes) >= self.cut_at and method != "GET":
                return None
            try:
                if headers.get("Content-Type") == "application/octet-stream":
                    content: Any = (body, headers)
                else:
                    content = json.loads(body) if body else None
                if method != "GET":
                    self.changes.append((method, f"{'/'.join(path)} {query.get('target', '')}",
                                         content))  # fmt: skip
                answer = self._dispatch(method, path, query, content)
            except RefusedError as error:
                answer = error.code, {"type": "error", "error": error.text}
            if self.cut_at and len(self.changes) >= self.cut_at:
                return None
            return answer

    def _dispatch(self, method: str, path: list[str], query: dict[str, str], body: Any) -> Answer:
        match method, path:
            case "GET", []:
                return self._sync({"environment": {
                    "server_clustered": self.clustered, "addresses": ["192.0.2.9:8443"],
                }})  # fmt: skip
            case "GET", ["cluster", "members"]:
                return self._sync([{"server_name": name, "url": f"https://10.77.0.{number}:8443"}
                                   for number, name in ((1, "m1"), (2, "m2"))])  # fmt: skip
            case "GET", ["projects", _, "state"]:
                return self._sync({"resources": self.limits})
            case "GET", ["operations"]:
                return self._sync({"running": self.running} if self.running else {})
            case "GET", ["operations", id, "wait"]:
                return self._operations[id]
            case "GET", ["storage-pools"]:
                return self._sync([{"name": name} for name in self.pools])
            case "GET", ["images", "aliases", alias]:
                return self._sync({"target": self._in(self.aliases, alias)})
            case "POST", ["images"]:
                data, headers = body
                fingerprint = hashlib.sha256(data).hexdigest()
                properties = parse_qs(headers["X-Incus-Properties"])
                self.images[fingerprint] = {
                    "fingerprint": fingerprint, "type": "container",
                    "properties": {key: values[0] for key, values in properties.items()},
                }  # fmt: skip
                return self._async()
            case "GET", ["instances", name, "console"]:
                return 200, "\n".join([f"{name} login:", *map(str, range(300))]).encode()
            case _, ["instances", *rest]:
                return self._instances(method, rest, query, body)
        kinds = {"networks": self.networks, "network-acls": self.acls, "profiles": self.profiles,
                 "images": self.images}  # fmt: skip
        return self._parts(method, path[0], kinds[path[0]], path[1:], query, body)

    def _parts(
        self, method: str, kind: str, parts: dict[str, Any], path: list[str],
        query: dict[str, str], body: Any,
    ) -> Answer:  # fmt: skip
        if method == "GET":
            shown = [self._shown(kind, part) for part in parts.values()]
            if not path:
                return self._sync(shown)
            if kind == "images":
                found = [key for key in parts if key.startswith(path[0])]
                return self._sync(self._in(parts, found[0] if found else path[0]))
            return self._sync(self._shown(kind, self._in(parts, path[0])))
        if method == "POST":
            name = body["name"]
            if kind == "networks" and self.clustered:
                return self._cluster_network(name, query, body)
            if name in parts:
                raise RefusedError(409, f"{name} already exists")
            parts[name] = {"status": "Created", "managed": True, "config": {}, **body}
            return self._sync(None)
        if method == "PUT":
            parts[path[0]] |= body
            return self._sync(None)
        if self._users(kind, path[0]):
            raise RefusedError(400, "The network is currently in use")
        del parts[path[0]]
        return self._async() if kind == "images" else self._sync(None)

    def _cluster_network(self, name: str, query: dict[str, str], body: Any) -> Answer:
        pending = self.networks.setdefault(
            name, {"name": name, "type": "bridge", "config": {}, "status": "Pending",
                   "locations": [], "managed": True},
        )  # fmt: skip
        if target := query.get("target"):
            pending["locations"].append(target)
        elif sorted(pending["locations"]) != ["m1", "m2"]:
            raise RefusedError(500, "not defined on all members")
        else:
            pending |= {"status": "Created", "config": body["config"]}
        return self._sync(None)

    def _shown(self, kind: str, part: dict[str, Any]) -> dict[str, Any]:
        users = self._users(kind, part.get("name", ""))
        return {**part, "used_by": [f"/1.0/instances/{name}?project=default" for name in users]}

    def _users(self, kind: str, name: str) -> list[str]:
        if kind == "profiles":
            return [each["name"] for each in self.instances.values() if name in each["profiles"]]
        if kind == "networks":
            return [each["name"] for each in self.instances.values()
                    if each["devices"].get("eth0", {}).get("network") == name]  # fmt: skip
        return []

    def _instances(self, method: str, path: list[str], query: dict[str, str], body: Any) -> Answer:
        match method, path:
            case "GET", []:
                return self._sync([self._rendered(each) for each in self.instances.values()])
            case "POST", []:
                return self._create(query, body)
        instance = self._in(self.instances, path[0])
        if instance["location"] in self.lost:
            raise RefusedError(500, "Server isn't ready yet")
        match method, path[1:]:
            case "GET", []:
                return self._sync(instance)
            case "GET", ["state"]:
                return self._sync(instance["state"])
            case "PUT", ["state"] if instance["status_code"] == 102:
                return self._async("The instance is already stopped")
            case "PUT", ["state"]:
                instance |= {"status_code": 102, "status": "Stopped"}
                return self._async()
            case "PATCH", []:
                for key, value in body.items():
                    instance[key] = {**instance[key], **value}
                return self._sync(None)
            case "DELETE", []:
                if instance["status_code"] != 102:
                    raise RefusedError(400, "Instance is running")
                del self.instances[path[0]]
                return self._async()
        raise RefusedError(404, "Not Found")

    def _create(self, query: dict[str, str], body: Any) -> Answer:
        name = body["name"]
        if name in self.instances:
            return self._async("UNIQUE constraint failed: instances.project_id, instances.name")
        members = [each for each in ("m1", "m2") if each not in self.lost]
        there = [each["location"] for each in self.instances.values()]
        location = query.get("target") or min(members, key=there.count)
        self._count += 1
        self.instances[name] = {
            "name": name, "location": location if self.clustered else "none", "state": {},
            "config": {**body["config"], "volatile.uuid": f"uuid-{self._count}"},
            "devices": body["devices"], "profiles": body["profiles"], "type": body["type"],
            "source": body["source"],
            "status_code": 102, "status": "Stopped", "last_used_at": LONG_AGO,
        }  # fmt: skip
        if reason := self.refuse.get(name):
            return self._async(reason)
        started = {"status_code": 103, "status": "Running", "last_used_at": "2027-03-05T00:00:00Z"}
        addresses = [{"family": "inet", "scope": "global", "address": f"192.0.2.{self._count}"}]
        state = {"network": {"lo": {"addresses": [
            {"family": "inet", "scope": "local", "address": "127.0.0.1"}]},
            "eth0": {"addresses": addresses}}}  # fmt: skip
        self.instances[name] |= {**started, "state": state}
        return self._async()

    def _rendered(self, instance: dict[str, Any]) -> dict[str, Any]:
        """As a list has it: nothing but name and place where the member is lost."""
        if instance["location"] not in self.lost:
            return instance
        return {"name": instance["name"], "location": instance["location"], "config": None,
                "devices": None, "status": "Error", "status_code": 112,
                "last_used_at": "0001-01-01T00:00:00Z"}  # fmt: skip

    @staticmethod
    def _in(parts: dict[str, Any], name: str) -> Any:
        if name not in parts:
            raise RefusedError(404, "Not Found")
        return parts[name]

    @staticmethod
    def _sync(metadata: Any) -> Answer:
        return 200, {"type": "sync", "metadata": metadata}

    def _async(self, error: str = "") -> Answer:
        """An operation that is over at once; a failed one answers as Incus 6.0 does."""
        id = f"operation-{len(self._operations)}"
        over = {"status_code": 200, "status": "Success", "err": ""}
        self._operations[id] = (
            (500, {"type": "error", "error": error}) if error else self._sync(over)
        )
        return 202, {"type": "async", "metadata": {"id": id, "description": "Creating instance"}}


def keys_in(script: str) -> list[str]:
    """The comments of the keys that a first-boot script lets in."""
    return re.findall(r"echo 'ssh-ed25519 \S+ ([^']*)'", script)
