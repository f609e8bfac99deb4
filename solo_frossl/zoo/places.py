"""Places that a checkpoint's file can be had from: ``file:``, ``https:`` and ``hf:``."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

_HF = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)/(?P<path>[^@]+?)(?:@(?P<revision>[\w./-]+))?", re.ASCII)


@dataclass(frozen=True)
class Place:
    """A place, taken apart.

    Attributes:
        text: as it stands in the index.
        kind: ``"file"``, ``"http"`` or ``"hf"``.
        path: of a ``file:`` place the path, absolute or from the index's folder on; of an ``hf:`` place the path in the
            repository; of an ``https:`` place the whole address.
        repo: ``OWNER/NAME`` of an ``hf:`` place, else empty.
        revision: branch, tag or commit of an ``hf:`` place, else empty.
    """

    text: str
    kind: Literal["file", "http", "hf"]
    path: str
    repo: str = ""
    revision: str = ""

    @property
    def shipped(self) -> bool:
        """Whether the file lies beside the index and goes where it goes: ``file:`` with a relative path."""
        return self.kind == "file" and not Path(self.path).is_absolute()

    def local(self, folder: Path | None) -> Path:
        """Where the file of a ``file:`` place lies.

        Args:
            folder: of the index; needed for a relative path.
        """
        return Path(self.path) if folder is None else folder / self.path


def parse_place(text: str) -> Place:
    """Take a place apart.

    ========================================  =========================================================================
    ``file:weights/NAME.safetensors``         from the index's folder on, and never above it
    ``file:/data/NAME.safetensors``           absolute; ``file:///data/...`` is the same
    ``https://HOST/...``                      also ``http:``, for what is read is checked by its hash wherever it lies
    ``hf:OWNER/REPO/PATH[@REVISION]``         a file of a model repository on the Hugging Face Hub; default: ``main``
    ========================================  =========================================================================

    Links in the file system are followed: what may be read is decided by size and hash, not by where it lies.

    >>> parse_place("hf:me/zoo/a.safetensors@v1")
    Place(text='hf:me/zoo/a.safetensors@v1', kind='hf', path='a.safetensors', repo='me/zoo', revision='v1')

    Raises:
        ValueError: the text is none of these, a path leaves its folder by ``..``, or an address holds a password.
    """
    scheme, _, rest = text.partition(":")
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError(f"{text!r} has white space or control characters in it; write %20 for a space in an address")
    if scheme == "file":
        path = rest.removeprefix("//")
        if not path or path.endswith("/") or not _stays(path.removeprefix("/")):
            raise ValueError(f"{text!r}: a file: place is a path without '..', absolute or from the index's folder on")
        return Place(text, "file", path)
    if scheme in ("http", "https"):
        try:
            address = urlsplit(text)
            host, _ = address.hostname, address.port
        except ValueError as error:
            raise ValueError(f"{text!r} is no address: {error}") from None
        if not rest.startswith("//") or not host:
            raise ValueError(f"{text!r} is no address: write {scheme}://HOST/PATH")
        if address.username is not None or address.password is not None:
            raise ValueError(f"the address at {host} holds a name or password; an index is no place for one")
        return Place(text, "http", text)
    if scheme == "hf":
        found = _HF.fullmatch(rest)
        if not found or not all(_stays(part) for part in found.group("repo", "path")):
            raise ValueError(f"{text!r}: write hf:OWNER/REPO/PATH or hf:OWNER/REPO/PATH@REVISION, without '..'")
        revision = found["revision"] or "main"
        if not _stays(revision):
            raise ValueError(f"{text!r}: {revision!r} is no branch, tag or commit")
        return Place(text, "hf", found["path"], found["repo"], revision)
    raise ValueError(f"{text!r}: a place begins with file:, https: or hf:")


def _stays(path: str) -> bool:
    """Whether a path is plain: relative, and without empty parts, ``.``, ``..`` and backslashes."""
    parts = path.split("/")
    return "\\" not in path and all(part not in ("", ".", "..") for part in parts)
