"""A server on loopback with the part of the JSON API of Google Cloud Storage that its clients here use.

Objects are in memory and have generations; a write or a deletion that asks for a generation is refused (412)
unless the object has it, as the real service does. Clients find it through the variables of `environment`.
"""

import base64
import contextlib
import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c


class Stored:
    """An object: its content, and the generation that every write makes anew."""

    def __init__(self, content: bytes, generation: int):
        self.content, self.generation, self.written = content, generation, time.time()
        self.md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
        self.crc32c = base64.b64encode(struct.pack(">I", google_crc32c.value(content))).decode()

    def resource(self, bucket: str, name: str) -> dict:
        when = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(self.written))
        return {
            "kind": "storage#object",
            "id": f"{bucket}/{name}/{self.generation}",
            "bucket": bucket,
            "name": name,
            "size": str(len(self.content)),
            "generation": str(self.generation),
            "metageneration": "1",
            "md5Hash": self.md5,
            "crc32c": self.crc32c,
            "etag": f"e{self.generation}",
            "timeCreated": when,
            "updated": when,
            "storageClass": "STANDARD",
            "contentType": "application/octet-stream",
        }


class Refused(Exception):
    """An answer with this status and reason."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


class Storage:
    """Buckets by name, each a dict of objects by name.

    before: called with the method, the bucket and the object's name of each request; it may raise Refused, or
    do something in the middle.
    """

    def __init__(self, *buckets: str):
        self.buckets: dict[str, dict[str, Stored]] = {name: {} for name in buckets}
        self.lock = threading.RLock()
        self.generation = int(time.time() * 1e6)
        self.before: Callable[[str, str, str], None] = lambda method, bucket, name: None
        self.sessions: dict[str, tuple[str, str, int | None, bytearray]] = {}

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        with self.lock:
            return sorted(name for name in self.buckets[bucket] if name.startswith(prefix))

    def content(self, bucket: str, name: str) -> bytes:
        return self.buckets[bucket][name].content

    def objects(self, bucket: str) -> dict[str, Stored]:
        if bucket not in self.buckets:
            raise Refused(404, "The specified bucket does not exist.")
        return self.buckets[bucket]

    def get(self, bucket: str, name: str) -> Stored:
        found = self.objects(bucket).get(name)
        if found is None:
            raise Refused(404, f"No such object: {bucket}/{name}")
        return found

    def require(self, bucket: str, name: str, generation: int | None) -> None:
        found = self.objects(bucket).get(name)
        if generation is not None and generation != (found.generation if found else 0):
            raise Refused(412, "At least one of the pre-conditions you specified did not hold.")

    def put(self, bucket: str, name: str, content: bytes, generation: int | None = None) -> dict:
        with self.lock:
            self.require(bucket, name, generation)
            self.generation += 1
            self.buckets[bucket][name] = Stored(content, self.generation)
            return self.buckets[bucket][name].resource(bucket, name)

    def delete(self, bucket: str, name: str, generation: int | None = None) -> None:
        with self.lock:
            self.get(bucket, name)
            self.require(bucket, name, generation)
            del self.buckets[bucket][name]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    storage: Storage

    def log_message(self, *_) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, BrokenPipeError):  # a client that was killed
            super().handle()

    def _answer(
        self, status: int, content: bytes | dict = b"", headers: dict[str, str] | None = None
    ) -> None:
        body = json.dumps(content).encode() if isinstance(content, dict) else content
        self.send_response(status)
        kind = "application/json; charset=UTF-8" if isinstance(content, dict) else "application/octet-stream"
        for name, value in {"Content-Type": kind, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _handle(self) -> None:
        split = urlsplit(self.path)
        self.asked = {
            name: values[0] for name, values in parse_qs(split.query, keep_blank_values=True).items()
        }
        self.body = self._read()
        try:
            self._answer(*self._route(self.command, split.path))
        except Refused as error:
            said = {
                "error": {
                    "code": error.status,
                    "message": error.reason,
                    "errors": [{"message": error.reason}],
                }
            }
            self._answer(error.status, said)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _handle

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _route(self, method: str, path: str) -> tuple:
        if path.startswith("/batch/"):
            return self._batch()
        found = re.match(
            r"/(?:(upload|download|resumable)/)?storage/v1/b(?:/([^/]+))?(?:/(o|storageLayout))?(?:/(.+))?$",
            path,
        )
        if found is None:
            raise Refused(404, f"not emulated: {method} {path}")
        kind, bucket, part, name = found[1], unquote(found[2] or ""), found[3], unquote(found[4] or "")
        if kind == "upload":
            return self._upload(method, bucket)
        with self.storage.lock:
            before = self.storage.before
        before(method, bucket, name)
        objects = self.storage.objects(bucket)
        if part == "storageLayout":
            return 200, {"bucket": bucket, "location": "US", "locationType": "multi-region"}
        if part is None:
            return 200, {
                "kind": "storage#bucket",
                "id": bucket,
                "name": bucket,
                "location": "US",
                "projectNumber": "1",
            }
        if not name:
            return self._list(bucket, objects)
        if (moved := re.fullmatch(r"(.+)/(?:rewriteTo|copyTo)/b/([^/]+)/o/(.+)", found[4])) is not None:
            source, target = unquote(moved[1]), unquote(moved[3])
            made = self.storage.put(
                unquote(moved[2]), target, self.storage.get(bucket, source).content, self._wanted()
            )
            size = made["size"]
            if "copyTo" in found[4]:
                return 200, made
            return 200, {
                "kind": "storage#rewriteResponse",
                "done": True,
                "objectSize": size,
                "totalBytesRewritten": size,
                "resource": made,
            }
        if method == "DELETE":
            self.storage.delete(bucket, name, self._wanted())
            return 204, b""
        if method == "PATCH":
            return 200, self.storage.get(bucket, name).resource(bucket, name)
        return self._read_object(bucket, name)

    def _wanted(self) -> int | None:
        given = self.asked.get("ifGenerationMatch")
        return None if given is None else int(given)

    def _read_object(self, bucket: str, name: str) -> tuple:
        found = self.storage.get(bucket, name)
        if self._wanted() not in (None, found.generation):
            raise Refused(412, "generation")
        if self.asked.get("ifGenerationNotMatch") == str(found.generation):
            return 304, b""
        if self.asked.get("alt") != "media":
            return 200, found.resource(bucket, name)
        headers = {
            "x-goog-hash": f"crc32c={found.crc32c},md5={found.md5}",
            "x-goog-generation": str(found.generation),
            "x-goog-stored-content-length": str(len(found.content)),
            "x-goog-stored-content-encoding": "identity",
            "ETag": f'"e{found.generation}"',
            "Last-Modified": formatdate(found.written, usegmt=True),
        }
        size = len(found.content)
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if asked is None or size == 0:
            return 200, found.content, headers
        if not asked[1]:
            first, last = max(0, size - int(asked[2])), size - 1
        else:
            first, last = int(asked[1]), min(int(asked[2] or size), size - 1)
        if first >= size:
            raise Refused(416, "range")
        return (
            206,
            found.content[first : last + 1],
            {**headers, "Content-Range": f"bytes {first}-{last}/{size}"},
        )

    def _list(self, bucket: str, objects: dict[str, Stored]) -> tuple:
        prefix, delimiter = self.asked.get("prefix", ""), self.asked.get("delimiter")
        after, start, end = (self.asked.get(name, "") for name in ("pageToken", "startOffset", "endOffset"))
        most = int(self.asked.get("maxResults", 1000))
        items: list[dict] = []
        prefixes: list[str] = []
        with self.storage.lock:
            names = [
                n for n in sorted(objects) if n.startswith(prefix) and n >= start and (not end or n < end)
            ]
            for name in names:
                rest = name[len(prefix) :]
                folder = (
                    prefix + rest.split(delimiter)[0] + delimiter if delimiter and delimiter in rest else None
                )
                shown = folder or name
                if after and shown <= after or folder in prefixes:
                    continue
                if len(items) + len(prefixes) == most:
                    last = max([item["name"] for item in items] + prefixes)
                    return 200, {
                        "kind": "storage#objects",
                        "items": items,
                        "prefixes": prefixes,
                        "nextPageToken": last,
                    }
                if folder is None:
                    items.append(objects[name].resource(bucket, name))
                else:
                    prefixes.append(folder)
        return 200, {"kind": "storage#objects", "items": items, "prefixes": prefixes}

    def _upload(self, method: str, bucket: str) -> tuple:
        kind, content, name = self.asked.get("uploadType"), self.body, self.asked.get("name", "")
        if "upload_id" in self.asked:
            name = self.storage.sessions[self.asked["upload_id"]][1]
        elif kind == "multipart":
            described, content = self._parts()
            name = described.get("name", name)
        elif kind == "resumable" and content.strip():
            name = json.loads(content).get("name", name)
        with self.storage.lock:
            before = self.storage.before
        before(method, bucket, name)
        self.storage.objects(bucket)
        if "upload_id" in self.asked:
            return self._resumed(self.asked["upload_id"])
        if kind in ("media", "multipart"):
            return 200, self.storage.put(bucket, name, content, self._wanted())
        if kind == "resumable":
            self.storage.require(bucket, name, self._wanted())
            upload = f"u{len(self.storage.sessions)}"
            self.storage.sessions[upload] = (bucket, name, self._wanted(), bytearray())
            query = f"uploadType=resumable&upload_id={upload}"
            place = f"http://{self.headers['Host']}/upload/storage/v1/b/{bucket}/o?{query}"
            return 200, b"", {"Location": place, "X-GUploader-UploadID": upload}
        raise Refused(400, f"not emulated: uploadType {kind}")

    def _parts(self) -> tuple[dict, bytes]:
        """What a body of two parts says of its object, and the content."""
        boundary = re.search(r"boundary=['\"]?([^'\";]+)", self.headers["Content-Type"])[1].encode()
        _, about, rest = self.body.split(b"--" + boundary, 2)
        data = rest.rsplit(b"--" + boundary + b"--", 1)[0]
        end = b"\r\n" if b"\r\n\r\n" in about else b"\n"
        content = data.split(2 * end, 1)[1].removesuffix(end)
        return json.loads(about.split(2 * end, 1)[1]), content

    def _resumed(self, upload: str) -> tuple:
        bucket, name, wanted, content = self.storage.sessions[upload]
        said = re.fullmatch(
            r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", self.headers.get("Content-Range", "bytes */*")
        )
        if said[1] is not None:
            del content[int(said[1]) :]
        content += self.body
        if said[3] != "*" and len(content) >= int(said[3]):
            return 200, self.storage.put(bucket, name, bytes(content), wanted)
        headers = {"Range": f"bytes=0-{len(content) - 1}"} if content else {}
        return 308, b"", headers

    def _batch(self) -> tuple:
        """Several requests in one, as gcsfs deletes."""
        boundary = re.search(r"boundary=['\"]?([^'\";]+)", self.headers["Content-Type"])[1]
        answers = []
        for part in self.body.decode().split(f"--{boundary}"):
            found = re.search(r"(DELETE|GET|POST|PATCH) (\S+) HTTP/1.1", part)
            if found is None:
                continue
            number = re.search(r"Content-ID: <?([^>\r\n]+)>?", part, re.IGNORECASE)
            split = urlsplit(found[2])
            self.asked = {name: values[0] for name, values in parse_qs(split.query).items()}
            try:
                status, content, *_ = self._route(found[1], split.path)
            except Refused as error:
                status, content = error.status, {"error": {"code": error.status, "message": error.reason}}
            text = json.dumps(content) if isinstance(content, dict) else ""
            answers.append(
                "Content-Type: application/http\r\n"
                f"Content-ID: <response-{number[1] if number else 0}>\r\n\r\n"
                f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(text)}\r\n\r\n{text}\r\n"
            )
        whole = "".join(f"--batch_x\r\n{answer}" for answer in answers) + "--batch_x--\r\n"
        return 200, whole.encode(), {"Content-Type": "multipart/mixed; boundary=batch_x"}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    address_family = socket.AF_INET
    request_queue_size = 128


@contextlib.contextmanager
def serving(storage: Storage) -> Iterator[str]:
    """Serves `storage` on a free port of loopback; yields its address."""
    handler = type("Handler", (Handler,), {"storage": storage})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def environment(address: str) -> dict[str, str]:
    """The variables by which all clients (google-cloud-storage, gcsfs, tensorstore) find the server."""
    return {
        "STORAGE_EMULATOR_HOST": address,
        "TENSORSTORE_GCS_HTTP_URL": address,
        # it would look for the kind of the bucket through another API, over gRPC
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
