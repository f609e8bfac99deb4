"""The cache of checkpoint files, and how a file gets into it."""

import errno
import hashlib
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import filelock
from tqdm import tqdm

from solo_frossl.zoo.errors import PlaceError, ZooError
from solo_frossl.zoo.index import Entry
from solo_frossl.zoo.places import Place

TIMEOUT = 15.0
"""Seconds to connect to a server, and to wait for its next bytes."""
_WORK = ".downloads"
"""Folder in the cache for what is on its way: ``FILE.lock``, and ``FILE/`` while ``FILE`` is not there."""
_checked: dict[Path, tuple[int, int, int, str]] = {}
"""Size, time of change, inode and hash of each file, as this process found them right."""


def cache_folder(cache: str | Path | None = None) -> Path:
    """The folder that files are downloaded into: the one given, else ``$SOLO_FROSSL_HOME/zoo``, else the platform's."""
    if cache is not None:
        return Path(cache).expanduser()
    if home := os.environ.get("SOLO_FROSSL_HOME"):
        return Path(home).expanduser() / "zoo"
    import pooch

    return pooch.os_cache("solo_frossl") / "zoo"


def cached_path(entry: Entry, cache: str | Path | None = None) -> Path:
    """Where the file of an entry lies in the cache, or would."""
    return cache_folder(cache) / entry.file


def check_file(path: Path, entry: Entry) -> str | None:
    """What is wrong with a file that should be an entry's, or None; reads it all."""
    try:
        size = path.stat().st_size
        if size != entry.size:
            return f"has {size} bytes, and the index says {entry.size}"
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "is not there"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return None if found == entry.sha256 else f"has the SHA-256 {found}, and the index says {entry.sha256}"


def fetch(entry: Entry, *, cache: str | Path | None = None, progress: bool = True, timeout: float = TIMEOUT) -> Path:
    """The file of an entry, checked: from the cache, else from the first of its places that gives it.

    A ``file:`` place is read where it lies. From elsewhere the file is downloaded into the cache, in which it appears
    whole and right or not at all; what has broken off is kept in ``.downloads`` beside it and continued by the next
    call. A warning names the places that were passed over, and why. Processes that ask for the same file wait for each
    other. A cached file is used without any network. Its size and hash are checked when a process first asks for it,
    and again whenever size, time of change or inode differ; one that is wrong is deleted with a warning, and fetched
    again.

    Args:
        entry: of an index.
        cache: folder; see :func:`cache_folder`.
        progress: show a bar, where standard error is a terminal.
        timeout: seconds to connect, and to wait for the next bytes; a place has twice that, and the time that the bytes
            take at 10 kB/s, in all.

    Raises:
        ZooError: no place gives the file, with the reason of each; or the cache cannot be written.
    """
    folder = cache_folder(cache)
    target = folder / entry.file
    if _wrong(target, entry) is None:
        return target
    reasons: list[str] = []
    unwritable: OSError | None = None
    with ExitStack() as held:
        locked = False

        def there() -> bool:
            nonlocal locked
            if not locked:
                held.enter_context(_lock(folder, entry, progress))
                locked = True
            return _usable(target, entry)

        try:
            if os.path.lexists(target) and there():
                return target
        except OSError as error:
            unwritable = error
        for place in entry.parsed_places():
            try:
                if place.kind == "file":
                    found = _local(place, entry)
                elif unwritable is None:
                    found = target if there() else _download(place, entry, folder, progress, timeout)
                else:
                    continue
                if reasons:
                    passed = "\n".join(reasons)
                    warnings.warn(f"{entry.name} is had from {place.text}; passed over:\n{passed}", stacklevel=2)
                return found
            except PlaceError as error:
                reasons.append(f"  {place.text}: {error}")
            except OSError as error:
                unwritable = error
    raise ZooError(_not_had(entry, folder, reasons, unwritable))


def remove_cached(entry: Entry, cache: str | Path | None = None) -> bool:
    """Delete the cached copy of an entry's file, and what there is of one on its way; whether there was any.

    Raises:
        ZooError: it cannot be deleted.
    """
    folder = cache_folder(cache)
    target, work = folder / entry.file, folder / _WORK / entry.file
    if not os.path.lexists(target) and not work.exists():
        return False
    try:
        with _lock(folder, entry, progress=True):
            target.unlink(missing_ok=True)
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise ZooError(f"{target} cannot be deleted: {error.strerror or error}") from error
    return True


def _wrong(path: Path, entry: Entry) -> str | None:
    """As :func:`check_file`, but a file that this process found right before and that has not changed is not read."""
    try:
        found = path.stat()
    except OSError:
        return check_file(path, entry)
    state = (found.st_size, found.st_mtime_ns, found.st_ino, entry.sha256)
    if _checked.get(path.absolute()) == state:
        return None
    reason = check_file(path, entry)
    if reason is None:
        _checked[path.absolute()] = state
    return reason


def _usable(target: Path, entry: Entry) -> bool:
    """Whether the cached file is there and right; one that is wrong is deleted. The lock is held."""
    if not os.path.lexists(target):
        return False
    reason = _wrong(target, entry)
    if reason is not None:
        target.unlink()
        warnings.warn(f"{target} {reason}; it was deleted and is fetched again", stacklevel=5)
    return reason is None


def _local(place: Place, entry: Entry) -> Path:
    path = place.local(entry.folder)
    if reason := _wrong(path, entry):
        raise PlaceError(reason)
    return path


@contextmanager
def _lock(folder: Path, entry: Entry, progress: bool) -> Iterator[None]:
    """Hold an entry's file in the cache against other processes; it is the kernel's lock, and ends with its process."""
    (folder / _WORK).mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / _WORK / f"{entry.file}.lock")
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        if progress:
            tqdm.write(f"{entry.name}: waiting for another process that fetches it", file=sys.stderr)
            sys.stderr.flush()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _download(place: Place, entry: Entry, folder: Path, progress: bool, timeout: float) -> Path:
    """Download a file from a place into the cache. The lock is held.

    Raises:
        PlaceError: what the place did.
        OSError: the cache cannot be written; nothing is left of the download then.
    """
    import pooch

    from solo_frossl.zoo.download import Part, ResumingDownloader

    pooch.get_logger().addFilter(_not_ours)  # the bar says as much as a line in the log
    url, headers = _address(place)
    work = folder / _WORK / entry.file
    part = Part(work / "part")
    try:
        work.mkdir(parents=True, exist_ok=True)
        for left in set(work.iterdir()) - {part.path, part.note}:  # by a process that was killed
            left.unlink()
        off = None if progress else True  # None: off where standard error is no terminal
        with tqdm(total=entry.size, desc=entry.name, unit="B", unit_scale=True, leave=False, disable=off) as bar:
            while True:
                resumed = part.size() > 0
                try:
                    downloader = ResumingDownloader(part, entry.size, headers, timeout, bar)
                    pooch.retrieve(url, f"sha256:{entry.sha256}", fname=entry.file, path=work, downloader=downloader)
                    break
                except PlaceError as error:
                    failure = error
                except ValueError as error:  # pooch's, of the hash
                    failure = PlaceError(f"sends another file: its SHA-256 is not {entry.sha256}", worthless=True)
                    failure.__cause__ = error
                if failure.worthless:
                    part.discard()
                if not (failure.worthless and resumed):
                    raise failure
                # Else the fault may be of what was there before, perhaps from another place: once more, all of it.
        os.replace(work / entry.file, folder / entry.file)
        shutil.rmtree(work, ignore_errors=True)
    except OSError:
        shutil.rmtree(work, ignore_errors=True)
        raise
    except PlaceError:
        if not part.size():
            shutil.rmtree(work, ignore_errors=True)
        raise
    return folder / entry.file


def _address(place: Place) -> tuple[str, dict[str, str]]:
    """The address of a place, and the headers that go with the request."""
    if place.kind == "http":
        return place.path, {}
    from huggingface_hub import constants, get_token, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        raise PlaceError("is not asked: HF_HUB_OFFLINE is set")
    try:
        url = hf_hub_url(place.repo, place.path, revision=place.revision)
    except ValueError as error:
        raise PlaceError(f"is no file on the Hub: {error}") from error
    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    return url, {"Authorization": f"Bearer {token}"} if token else {}


def _not_ours(record: logging.LogRecord) -> bool:
    return f"{os.sep}{_WORK}{os.sep}" not in record.getMessage()


def _not_had(entry: Entry, folder: Path, reasons: list[str], unwritable: OSError | None) -> str:
    """Why an entry's file cannot be had, and what to do."""
    why = "none of its places gives the file" if reasons else "there is no place to put it"
    lines = [f"{entry.name} cannot be had: {why}", *reasons]
    if unwritable is not None:
        why = unwritable.strerror or str(unwritable)
        if unwritable.errno in (errno.ENOSPC, errno.EDQUOT):
            why = f"{why}; {entry.size} bytes are needed"
        lines.append(f"  {folder}: the cache cannot be written: {why}")
        lines.append("Make room or choose another folder, with --cache or the environment variable SOLO_FROSSL_HOME.")
        return "\n".join(lines)
    part = folder / _WORK / entry.file / "part"
    if part.is_file():
        lines.append(f"{part.stat().st_size} of {entry.size} bytes are kept, and the next call goes on from there.")
    lines.append(
        f"Try again later, or put a copy of {entry.file} (SHA-256 {entry.sha256}) into {folder}, where it is found."
    )
    return "\n".join(lines)
