"""A real HTTP server on loopback that misbehaves as it is told to, and entries of an index to ask it for."""

import contextlib
import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from solo_frossl.zoo import Entry

BLOCK = 256


def make_entry(
    content: bytes, *places: str, name: str = "frossl-digits", folder: Path | None = None, **other: Any
) -> Entry:
    """An entry of an index for a file of these bytes."""
    sha256 = hashlib.sha256(content).hexdigest()
    values = {
        "name": name,
        "method": "frossl",
        "dataset": "digits",
        "architecture": {"backbone": "resnet18", "stem": "cifar", "width": 0.25, "channels": 3, "image_size": 32},
        "num_features": 128,
        "epochs": 30,
        "seed": 0,
        "precision": "float16",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "config": {"method": "frossl", "model": {"optimizer": {"lr": 1e-5}}},
        "accuracy": {"linear_top1": 97.77, "knn_top1": 98.33},
        "measured_by": "solo-frossl zoo add runs/frossl-digits",
        "licence": "MIT",
        "file": f"{name}-{sha256[:8]}.safetensors",
        "size": len(content),
        "sha256": sha256,
        "places": list(places),
    }
    return replace(Entry.from_dict(values | other), folder=folder)


@dataclass
class Request:
    """What a server was asked, and what came of it.

    Attributes:
        path: of the address, with its query.
        headers: names in lower case.
        status: that was answered.
        sent: bytes of the body that were sent.
    """

    path: str
    headers: dict[str, str]
    status: int = 0
    sent: int = 0


@dataclass
class Server:
    """The server: ``/BEHAVIOUR/...`` is answered as the function of that name below.

    Attributes:
        address: ``http://127.0.0.1:PORT``.
        content: the right file.
        released: servers that hang or wait do so until this is set.
        requests: all that were asked, in order.
    """

    content: bytes
    address: str = ""
    released: threading.Event = field(default_factory=threading.Event)
    requests: list[Request] = field(default_factory=list)

    def __call__(self, behaviour: str) -> str:
        """The address of a behaviour."""
        return f"{self.address}/{behaviour}/file.safetensors"


@contextmanager
def serve(content: bytes) -> Iterator[Server]:
    """A server of these bytes, until the end of the block."""
    server = Server(content)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            request = Request(self.path, {key.lower(): value for key, value in self.headers.items()})
            server.requests.append(request)
            self.request_log, self.close_connection = request, True
            behaviour = BEHAVIOURS[self.path.split("/")[1]]
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                behaviour(self, server)

        def head(self, status: int, **headers: Any) -> None:
            self.request_log.status = status
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key.replace("_", "-"), str(value))
            self.send_header("Connection", "close")
            self.end_headers()

        def body(self, data: bytes, pause: float = 0.0) -> None:
            for start in range(0, len(data), BLOCK):
                self.wfile.write(data[start : start + BLOCK])
                self.request_log.sent += len(data[start : start + BLOCK])
                if pause:
                    server.released.wait(pause)

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.address = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        http.shutdown()
        thread.join()
        http.server_close()


# ---------------------------------------------------------------------------------------------------- good behaviours


def good(handler: Any, server: Server, etag: str = '"right"') -> None:
    """Ranges, ``If-Range`` and an ETag, as a file server has them."""
    content, size = server.content, len(server.content)
    asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    if asked and handler.headers.get("If-Range", etag) == etag:
        start = int(asked[1])
        if start >= size:
            handler.head(416, Content_Length=0, Content_Range=f"bytes */{size}")
            return
        handler.head(206, Content_Length=size - start, Content_Range=f"bytes {start}-{size - 1}/{size}", ETag=etag)
        handler.body(content[start:])
        return
    handler.head(200, Content_Length=size, ETag=etag, Accept_Ranges="bytes")
    handler.body(content)


def no_ranges(handler: Any, server: Server) -> None:
    """Sends all, whatever was asked for."""
    handler.head(200, Content_Length=len(server.content))
    handler.body(server.content)


def no_length(handler: Any, server: Server) -> None:
    """Does not say how long the file is."""
    handler.head(200)
    handler.body(server.content)


def chunked(handler: Any, server: Server) -> None:
    """Sends the file in chunks of its own choice."""
    handler.head(200, Transfer_Encoding="chunked")
    for start in range(0, len(server.content), 700):
        piece = server.content[start : start + 700]
        handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
    handler.wfile.write(b"0\r\n\r\n")


def redirect(handler: Any, server: Server) -> None:
    """Sends on to the good one."""
    handler.head(302, Location=server("good"), Content_Length=0)


def drip_redirect(handler: Any, server: Server) -> None:
    """Sends on to the good one, with a page that never ends, and that nobody needs."""
    handler.head(302, Location=server("good"), Content_Length=5000)
    for _ in range(5000):
        handler.body(b"x", pause=0.1)


def other_host(handler: Any, server: Server) -> None:
    """Sends on to the good one, at another name of this machine."""
    handler.head(302, Location=server("good").replace("127.0.0.1", "localhost"), Content_Length=0)


def wait(handler: Any, server: Server) -> None:
    """Good; but the second half comes when the test says so."""
    half = len(server.content) // 2
    handler.head(200, Content_Length=len(server.content), ETag='"right"')
    handler.body(server.content[:half])
    server.released.wait()
    handler.body(server.content[half:])


GOOD = ("good", "no_ranges", "no_length", "chunked", "redirect", "drip_redirect")

# ----------------------------------------------------------------------------------------------------- bad behaviours


def not_found(handler: Any, server: Server) -> None:
    handler.head(404, Content_Length=9)
    handler.body(b"not found")


def broken(handler: Any, server: Server) -> None:
    handler.head(500, Content_Length=0)


def empty(handler: Any, server: Server) -> None:
    handler.head(204)


def hang(handler: Any, server: Server) -> None:
    """Never answers."""
    server.released.wait()


def hang_inside(handler: Any, server: Server) -> None:
    """Sends a part, and then nothing."""
    handler.head(200, Content_Length=len(server.content))
    handler.body(server.content[:BLOCK])
    server.released.wait()


def drip(handler: Any, server: Server) -> None:
    """Sends a byte now and then, so that no timeout of a socket ever passes."""
    handler.head(200, Content_Length=len(server.content))
    for position in range(len(server.content)):
        handler.body(server.content[position : position + 1], pause=0.1)


def drip_without_length(handler: Any, server: Server) -> None:
    handler.head(200)
    for position in range(len(server.content)):
        handler.body(server.content[position : position + 1], pause=0.1)


def drip_headers(handler: Any, server: Server) -> None:
    """Sends its headers, a byte now and then."""
    for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 5000:
        handler.wfile.write(bytes([byte]))
        server.released.wait(0.1)


def break_off(handler: Any, server: Server) -> None:
    """Closes the connection in the middle; also of what is left."""
    asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    start, size = int(asked[1]) if asked else 0, len(server.content)
    length = {"Content_Length": size - start}
    if asked:
        handler.head(206, Content_Range=f"bytes {start}-{size - 1}/{size}", **length)
    else:
        handler.head(200, **length)
    handler.body(server.content[start : start + (size - start) // 2])


def break_off_without_length(handler: Any, server: Server) -> None:
    handler.head(200)
    handler.body(server.content[: len(server.content) // 2])


def tampered(handler: Any, server: Server) -> None:
    """A file of the right size with a bit turned."""
    handler.head(200, Content_Length=len(server.content))
    handler.body(bytes([server.content[0] ^ 1]) + server.content[1:])


def tampered_break_off(handler: Any, server: Server) -> None:
    """The beginning of another file."""
    handler.head(200, Content_Length=len(server.content))
    handler.body(bytes(byte ^ 1 for byte in server.content[: len(server.content) // 2]))


def truncated(handler: Any, server: Server) -> None:
    """A shorter file."""
    handler.head(200, Content_Length=len(server.content) - 1)
    handler.body(server.content[:-1])


def longer(handler: Any, server: Server) -> None:
    """A longer file, whose length is not announced."""
    handler.head(200)
    handler.body(server.content + b"more")


def longer_later(handler: Any, server: Server) -> None:
    """A longer file, of which the rest comes when the right one is done."""
    handler.head(200)
    handler.body(server.content)
    time.sleep(0.2)
    handler.body(b"more")


def endless(handler: Any, server: Server) -> None:
    """A body that never ends."""
    handler.head(200)
    while not server.released.is_set():
        handler.body(b"x" * 65536)


def announces_more(handler: Any, server: Server) -> None:
    handler.head(200, Content_Length=len(server.content) + 10)
    handler.body(server.content)


def announces_nonsense(handler: Any, server: Server) -> None:
    handler.head(200, Content_Length="many")
    handler.body(server.content)


def wrong_range(handler: Any, server: Server) -> None:
    """Answers 206 to anything, with the first bytes."""
    handler.head(206, Content_Length=10, Content_Range=f"bytes 0-9/{len(server.content)}")
    handler.body(server.content[:10])


def lying_range(handler: Any, server: Server) -> None:
    """Says the right range, and sends other bytes; sent all, they are wrong too."""
    asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    start, size = int(asked[1]) if asked else 0, len(server.content)
    if asked:
        handler.head(206, Content_Length=size - start, Content_Range=f"bytes {start}-{size - 1}/{size}")
    else:
        handler.head(200, Content_Length=size)
    handler.body(b"?" * (size - start))


def never_satisfiable(handler: Any, server: Server) -> None:
    handler.head(416, Content_Length=0)


def gzip(handler: Any, server: Server) -> None:
    handler.head(200, Content_Length=len(server.content), Content_Encoding="gzip")
    handler.body(server.content)


def loop(handler: Any, server: Server) -> None:
    handler.head(302, Location=server("loop"), Content_Length=0)


def elsewhere(handler: Any, server: Server) -> None:
    """Sends on to a file of this machine."""
    handler.head(302, Location="file:///etc/hostname", Content_Length=0)


def garbage(handler: Any, server: Server) -> None:
    """Does not speak HTTP."""
    handler.wfile.write(b"SSH-2.0-OpenSSH\r\n")


REASONS = {
    "not_found": "answers 404 Not Found",
    "broken": "answers 500 Internal Server Error",
    "empty": "answers 204 No Content",
    "hang": r"hangs \(timeout while waiting for bytes\)",
    "hang_inside": r"hangs \(timeout while waiting for bytes\)",
    "drip": "is slow: not done after",
    "drip_without_length": "is slow: not done after",
    "drip_headers": "is slow: not done after",
    "break_off": r"broke off in the middle, \d+ bytes before the end",
    "break_off_without_length": r"broke off after \d+ of \d+ bytes",
    "tampered": "sends another file: its SHA-256 is not",
    "tampered_break_off": r"broke off in the middle, \d+ bytes before the end",
    "truncated": r"announces \d+ bytes, and \d+ are needed",
    "longer": r"sends more than the \d+ bytes",
    "longer_later": r"sends more than the \d+ bytes",
    "endless": r"sends more than the \d+ bytes",
    "announces_more": r"announces \d+ bytes, and \d+ are needed",
    "announces_nonsense": r"announces many bytes, and \d+ are needed|cannot be read: .*many",
    "wrong_range": "answers 206",
    "lying_range": "sends another file: its SHA-256 is not",
    "never_satisfiable": "answers 416",
    "gzip": "sends the file encoded as gzip",
    "loop": "redirects more than 10 times",
    "elsewhere": "cannot be read: No connection adapters",
    "garbage": "cannot be read: .*SSH-2.0-OpenSSH",
}
"""Bad behaviours, and what is said of them when nothing was there before."""
SLOW = ("hang", "hang_inside", "drip", "drip_without_length", "drip_headers")
"""Those that take as long as one waits."""
RESUMABLE = (
    "hang_inside",
    "drip",
    "drip_without_length",
    "break_off",
    "break_off_without_length",
    "tampered_break_off",
)
"""Those after which bytes are kept."""
BEHAVIOURS: dict[str, Callable[[Any, Server], None]] = {
    name: globals()[name] for name in (*GOOD, "other_host", "wait", *REASONS)
}


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something that another process or thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)
