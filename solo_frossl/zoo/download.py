"""A downloader for pooch that goes on where a download broke off, and gives up servers that hang, drip or lie.

pooch has the temporary file and the check of the hash; its own downloader begins again each time, and waits for as long
as a server sends a byte now and then.
"""

import http.client
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import requests
import urllib3
from requests.adapters import HTTPAdapter
from tqdm import tqdm

import solo_frossl
from solo_frossl.zoo.errors import PlaceError

LEAST_SPEED = 10_000
"""Bytes a second; a server that is slower on average is given up."""
_CHUNK = 1 << 16
_REDIRECTS = 10


class Part:
    """A file that is not all there yet, and a note of where its bytes are from.

    Args:
        path: the file; the note lies beside it.

    Attributes:
        note: the note's file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.note = path.with_name(path.name + ".json")

    def size(self) -> int:
        """Bytes that are there."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def etag(self, url: str) -> str | None:
        """By what the server of this address knew the file, if the bytes are from there."""
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
            return note["etag"] if note["url"] == url else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def describe(self, url: str, etag: str | None) -> None:
        """Note where the bytes are from. A weak ETag, which does not stand for the very bytes, is left out."""
        etag = etag if etag and etag.startswith('"') else None
        self.note.write_text(json.dumps({"url": url, "etag": etag}), encoding="utf-8")

    def discard(self) -> None:
        """Delete both."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


class ResumingDownloader:
    """Called by :func:`pooch.retrieve` as ``downloader(url, output_file, pooch)``.

    Bytes are appended to ``part``; when all are there, it becomes ``output_file``. What is there from an earlier call
    is continued with a ``Range`` request, also at another address: the file is one and the same, which its hash shows
    in the end. At the same address ``If-Range`` keeps a file that has changed there from being mixed with the old one.

    Args:
        part: where bytes are gathered.
        size: bytes that the file has.
        headers: sent with the request.
        timeout: seconds to connect, and to wait for the next bytes. All in all a server has twice that, and the time
            that the bytes take at :data:`LEAST_SPEED`.
        bar: shows the bytes.
    """

    def __init__(self, part: Part, size: int, headers: Mapping[str, str], timeout: float, bar: tqdm) -> None:
        self.part = part
        self.size = size
        self.headers = headers
        self.timeout = timeout
        self.bar = bar

    def __call__(self, url: str, output_file: str, pooch: Any = None) -> None:
        """Download.

        Raises:
            PlaceError: what the server did.
            OSError: the part cannot be written.
        """
        if self.part.size() < self.size:
            self._download(url)
        os.replace(self.part.path, output_file)

    def _download(self, url: str) -> None:
        start = self.part.size()
        seconds = 2 * self.timeout + (self.size - start) / LEAST_SPEED
        too_slow = PlaceError(f"is slow: not done after {seconds:.3g} s, with less than {LEAST_SPEED // 1000} kB/s")
        headers = {
            "User-Agent": f"solo_frossl/{solo_frossl.__version__}",
            **self.headers,
            "Accept-Encoding": "identity",
            **({"Range": f"bytes={start}-"} if start else {}),
            **({"If-Range": etag} if start and (etag := self.part.etag(url)) else {}),
        }
        deadline = time.monotonic() + seconds
        with _session(seconds) as session:
            with _network(deadline, too_slow):
                response = _get(session, url, headers, self.timeout)
            start = self._start(response, start)
            self.part.describe(url, response.headers.get("ETag"))
            self.bar.n = start
            self.bar.refresh()
            with open(self.part.path, "ab" if start else "wb", buffering=0) as file:
                done = start
                while done < self.size:
                    with _network(deadline, too_slow):
                        chunk = response.raw.read1(_CHUNK)
                    if not chunk and time.monotonic() >= deadline:
                        raise too_slow
                    if not chunk:
                        raise PlaceError(f"broke off after {done} of {self.size} bytes")
                    done += len(chunk)
                    if done > self.size:
                        raise PlaceError(f"sends more than the {self.size} bytes of the file", worthless=True)
                    _write(file, chunk)
                    self.bar.update(len(chunk))
                os.fsync(file.fileno())
            if "Content-Length" not in response.headers and _goes_on(response):
                raise PlaceError(f"sends more than the {self.size} bytes of the file", worthless=True)

    def _start(self, response: requests.Response, asked: int) -> int:
        """The first byte that a response brings.

        Args:
            response: to the request.
            asked: the byte that was asked for.
        """
        status = response.status_code
        if status == 206 and asked:
            start, wanted = asked, f"bytes {asked}-{self.size - 1}/{self.size}"
            got = response.headers.get("Content-Range", "nothing")
            if not re.fullmatch(rf"bytes {asked}-{self.size - 1}/({self.size}|\*)", got):
                raise PlaceError(f"answers another range than it was asked for: {got}, not {wanted}", worthless=True)
        elif status == 200:
            start = 0
        else:
            reason = response.headers.get("X-Error-Message") or response.reason or ""
            raise PlaceError(f"answers {status} {reason}".rstrip(), worthless=status in (206, 416))
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":
            raise PlaceError(f"sends the file encoded as {encoding}, which it was not asked for", worthless=start > 0)
        length = response.headers.get("Content-Length")
        if length is not None and length != str(self.size - start):
            raise PlaceError(f"announces {length} bytes, and {self.size - start} are needed", worthless=start > 0)
        return start


def _get(session: requests.Session, url: str, headers: dict[str, str], timeout: float) -> requests.Response:
    """The response at the end of the redirects."""
    for _ in range(_REDIRECTS + 1):
        response = session.get(url, headers=headers, stream=True, timeout=(timeout, timeout))
        target = session.get_redirect_target(response)
        if target is None:
            return response
        response.close()
        target = urljoin(response.url, requests.utils.requote_uri(target))
        if session.should_strip_auth(url, target):
            headers = {key: value for key, value in headers.items() if key != "Authorization"}
        url = target
    raise requests.TooManyRedirects


class _Session(requests.Session):
    """Follows no redirect by itself: requests reads and unpacks their pages, however long they are."""

    def resolve_redirects(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """None."""
        return iter(())


def _write(file: Any, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


def _goes_on(response: requests.Response) -> bool:
    """Whether a body whose length was not announced has more bytes than the file."""
    try:
        return bool(response.raw.read1(1))
    except (urllib3.exceptions.HTTPError, OSError, ValueError):
        return False


@contextmanager
def _network(deadline: float, too_slow: PlaceError) -> Iterator[None]:
    """Turn what goes wrong with a connection into a :class:`PlaceError`."""
    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        if time.monotonic() >= deadline:
            raise too_slow from error
        raise PlaceError(_reason(error)) from error


def _reason(error: BaseException) -> str:
    """What a network error comes down to, without the layers of libraries that it came through."""
    layers = list(_layers(error))
    for layer in layers:
        if isinstance(layer, requests.TooManyRedirects):
            return f"redirects more than {_REDIRECTS} times"
        if isinstance(layer, http.client.IncompleteRead):
            return "broke off in the middle" + (f", {layer.expected} bytes before the end" if layer.expected else "")
    if isinstance(layers[-1], TimeoutError):
        connecting = any(isinstance(layer, urllib3.exceptions.ConnectTimeoutError) for layer in layers)
        return "does not answer (timeout while connecting)" if connecting else "hangs (timeout while waiting for bytes)"
    return f"cannot be read: {' '.join(str(layers[-1]).split()) or type(layers[-1]).__name__}"


def _layers(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was made of, the outermost first."""
    yield error
    inner = [getattr(error, "reason", None), *error.args, error.__cause__, error.__context__]
    if found := next((layer for layer in inner if isinstance(layer, BaseException)), None):
        yield from _layers(found)


@contextmanager
def _session(seconds: float) -> Iterator[requests.Session]:
    """A session whose connections are broken off after some seconds, whatever they are doing then.

    Timeouts of sockets begin anew with every byte; so a server could send its headers, or the page of a redirect, one
    byte at a time.
    """
    connections = _Connections()
    timer = threading.Timer(seconds, connections.break_off)
    timer.daemon = True
    with _Session() as session:
        session.mount("http://", connections)
        session.mount("https://", connections)
        timer.start()
        try:
            yield session
        finally:
            timer.cancel()
            connections.break_off()


class _Connections(HTTPAdapter):
    """Makes connections as requests does, and remembers them."""

    def __init__(self) -> None:
        self._made: list[Any] = []
        self._over = threading.Event()
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        made, over = self._made, self._over

        class Connection(pool.ConnectionCls):
            def connect(self) -> None:
                made.append(self)  # it may hang in the TLS handshake
                super().connect()
                if over.is_set():  # of a redirect that came when the time was over
                    raise TimeoutError("the time is over")
                made.append(self.sock)  # the connection forgets it when the server says `Connection: close`

        pool.ConnectionCls = Connection
        return pool

    def break_off(self) -> None:
        """Shut all sockets down, those to come too; whoever waits for one of them wakes up."""
        self._over.set()
        for made in list(self._made):
            if (end := getattr(made, "sock", made)) is not None:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
