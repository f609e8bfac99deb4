"""Fetching, from a real server that misbehaves in every way that is known here."""

import errno
import io
import logging
import os
import random
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pooch
import pytest
from pseudo_terminal import terminal
from zoo_server import GOOD, REASONS, RESUMABLE, SLOW, make_entry, serve

import solo_frossl.zoo.cache
from solo_frossl.zoo import ZooError, cache_folder, fetch, remove_cached
from solo_frossl.zoo.download import Part

pytestmark = pytest.mark.filterwarnings("ignore:.*passed over")  # which one test asks for

CONTENT = random.Random(0).randbytes(3000)
"""The right file."""


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture(scope="module")
def one_server():
    with serve(CONTENT) as server:
        yield server


@pytest.fixture
def server(one_server):
    """Its servers hang until a test releases them."""
    one_server.released.clear()
    return one_server


def in_cache(cache: Path) -> dict[str, bytes]:
    """The files below a cache folder, but for locks."""
    files = [file for file in cache.rglob("*") if not file.is_dir() and file.suffix != ".lock"]
    return {str(file.relative_to(cache)): file.read_bytes() for file in files}


def part_of(entry, cache):
    return cache / ".downloads" / entry.file / "part"


def keep(entry, cache, content):
    """As if a download had broken off after these bytes."""
    part_of(entry, cache).parent.mkdir(parents=True)
    part_of(entry, cache).write_bytes(content)


class TestGood:
    @pytest.mark.parametrize("behaviour", GOOD)
    def test_whole(self, server, tmp_path, behaviour):
        entry = make_entry(CONTENT, server(behaviour))
        assert fetch(entry, cache=tmp_path) == tmp_path / entry.file
        assert in_cache(tmp_path) == {entry.file: CONTENT}

    def test_a_cached_file_is_used_without_asking_anyone(self, server, tmp_path):
        entry = make_entry(CONTENT, server("good"))
        fetch(entry, cache=tmp_path)
        asked = len(server.requests)
        for places in ([server("good")], ["https://host.invalid/a"], ["hf:me/zoo/a"]):
            assert fetch(make_entry(CONTENT, *places), cache=tmp_path).read_bytes() == CONTENT
        assert len(server.requests) == asked

    def test_a_file_place_is_read_where_it_lies(self, tmp_path):
        (tmp_path / "weights").mkdir()
        (tmp_path / "weights" / "a.safetensors").write_bytes(CONTENT)
        cache = tmp_path / "cache"
        for place in ("file:weights/a.safetensors", f"file:{tmp_path}/weights/a.safetensors"):
            entry = make_entry(CONTENT, place, folder=tmp_path)
            assert fetch(entry, cache=cache) == tmp_path / "weights" / "a.safetensors"
        assert not cache.exists()

    def test_the_first_place_that_is_good_is_the_last_that_is_asked(self, server, tmp_path):
        asked = len(server.requests)
        with pytest.warns(UserWarning, match="passed over") as told:
            fetch(make_entry(CONTENT, server("not_found"), server("good"), server("no_ranges")), cache=tmp_path)
        words = f"had from {server('good')}; passed over:\n  {server('not_found')}: answers 404"
        assert any(words in str(warning.message) for warning in told)
        assert [request.path.split("/")[1] for request in server.requests[asked:]] == ["not_found", "good"]

    def test_a_bar(self, server, tmp_path, monkeypatch):
        """It starts with what is there, and is gone in the end."""
        entry = make_entry(CONTENT, server("good"))
        keep(entry, tmp_path, CONTENT[:1500])
        with terminal(80) as screen:
            monkeypatch.setattr("sys.stderr", screen.file)
            fetch(entry, cache=tmp_path)
            assert screen.lines() in ([], [""])
        assert "frossl-digits:  50%" in screen.written.decode()
        assert "| 1.50k/3.00k [" in screen.written.decode()

    def test_pooch_writes_no_log_of_our_downloads_and_keeps_its_own(self, server, tmp_path):
        log = io.StringIO()
        pooch.get_logger().addHandler(handler := logging.StreamHandler(log))
        try:
            fetch(make_entry(CONTENT, server("good")), cache=tmp_path)
            assert log.getvalue() == ""
            pooch.retrieve(server("good"), None, fname="other", path=tmp_path)
            assert "Downloading data from" in log.getvalue()
        finally:
            pooch.get_logger().removeHandler(handler)


class TestBad:
    @pytest.mark.slow
    @pytest.mark.parametrize("behaviour", REASONS)
    def test_refused_with_its_reason_and_the_next_place_tried(self, server, tmp_path, behaviour):
        timeout = 2 if behaviour in SLOW else 10
        entry = make_entry(CONTENT, server(behaviour))
        with pytest.raises(ZooError, match=REASONS[behaviour]) as caught:
            fetch(entry, cache=tmp_path, timeout=timeout)
        assert f"  {server(behaviour)}: " in str(caught.value)
        assert f"put a copy of {entry.file} (SHA-256 {entry.sha256}) into {tmp_path}" in str(caught.value)
        kept = in_cache(tmp_path)
        part = kept.pop(f".downloads/{entry.file}/part", b"")
        assert (len(part) > 0) == (behaviour in RESUMABLE)
        assert (f"{len(part)} of 3000 bytes are kept" in str(caught.value)) == (behaviour in RESUMABLE)
        assert set(kept) <= {f".downloads/{entry.file}/part.json"}
        before = [server(behaviour)] if behaviour not in SLOW else []
        fetch(make_entry(CONTENT, *before, server("good")), cache=tmp_path)
        assert in_cache(tmp_path) == {entry.file: CONTENT}

    def test_nobody_there(self, tmp_path):
        entry = make_entry(CONTENT, "http://127.0.0.1:9/a", "http://host.invalid/a", "file:/nowhere", "file:a")
        with pytest.raises(ZooError) as caught:
            fetch(entry, cache=tmp_path)
        assert "  http://127.0.0.1:9/a: cannot be read: [Errno 111] Connection refused\n" in str(caught.value)
        assert "  http://host.invalid/a: cannot be read: " in str(caught.value)
        assert "  file:/nowhere: is not there\n" in str(caught.value)
        assert in_cache(tmp_path) == {}

    def test_a_server_that_accepts_no_connection(self, tmp_path):
        """Its queue is full: the kernel leaves the next one without an answer."""
        with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as waiting:
            address = server.getsockname()
            for _ in range(4):
                one = waiting.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex(address)
            with pytest.raises(ZooError, match=r"does not answer \(timeout while connecting\)"):
                fetch(make_entry(CONTENT, f"http://127.0.0.1:{address[1]}/a"), cache=tmp_path, timeout=0.3)
        assert in_cache(tmp_path) == {}

    def test_a_wrong_file_place_is_refused_and_left_alone(self, server, tmp_path):
        file = tmp_path / "a"
        cache = tmp_path / "cache"
        for content, reason in ((b"x", "has 1 bytes, and the index says 3000"), (b"x" * 3000, "has the SHA-256")):
            file.write_bytes(content)
            with pytest.raises(ZooError, match=reason):
                fetch(make_entry(CONTENT, f"file:{file}"), cache=cache)
            assert file.read_bytes() == content
        file.unlink()
        file.mkdir()
        with pytest.raises(ZooError, match=r"file:.*/a: "):
            fetch(make_entry(CONTENT, f"file:{file}"), cache=cache)
        assert fetch(make_entry(CONTENT, f"file:{file}", server("good")), cache=cache).parent == cache


class TestCached:
    def test_a_file_that_was_right_for_one_entry_is_not_for_another(self, server, tmp_path):
        """Of the same name and size, and unchanged since."""
        (tmp_path / "a").write_bytes(CONTENT)
        assert fetch(make_entry(CONTENT, f"file:{tmp_path}/a")) == tmp_path / "a"
        with pytest.raises(ZooError, match="has the SHA-256"):
            fetch(make_entry(CONTENT[::-1], f"file:{tmp_path}/a"), cache=tmp_path / "cache")

    @pytest.mark.parametrize(
        ("damage", "reason"),
        [
            (lambda content: content[:-1], "has 2999 bytes, and the index says 3000"),
            (lambda content: b"", "has 0 bytes"),
            (lambda content: b"x" + content[1:], "has the SHA-256"),
        ],
    )
    def test_a_damaged_file_is_deleted_and_fetched_again(self, server, tmp_path, damage, reason):
        entry = make_entry(CONTENT, server("good"))
        (tmp_path / entry.file).write_bytes(damage(CONTENT))
        with pytest.warns(UserWarning, match=f"{entry.file} {reason}.*was deleted and is fetched again"):
            fetch(entry, cache=tmp_path)
        assert in_cache(tmp_path) == {entry.file: CONTENT}

    def test_it_is_noticed_also_after_it_was_found_right(self, server, tmp_path):
        entry = make_entry(CONTENT, server("good"))
        fetch(entry, cache=tmp_path)
        path = fetch(entry, cache=tmp_path)
        before = path.stat()
        path.write_bytes(b"x" + CONTENT[1:])
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        with pytest.warns(UserWarning, match="was deleted"):
            assert fetch(entry, cache=tmp_path).read_bytes() == CONTENT

    def test_it_is_read_once_a_process(self, server, tmp_path, monkeypatch):
        entry = make_entry(CONTENT, server("good"))
        read = []
        check = solo_frossl.zoo.cache.check_file
        monkeypatch.setattr(solo_frossl.zoo.cache, "check_file", lambda *args: read.append(args) or check(*args))
        fetch(entry, cache=tmp_path)
        read.clear()
        for _ in range(3):
            fetch(entry, cache=tmp_path)
        assert len(read) == 1

    def test_when_no_place_is_good_it_is_gone(self, server, tmp_path):
        entry = make_entry(CONTENT, server("not_found"))
        (tmp_path / entry.file).write_bytes(b"x")
        with pytest.warns(UserWarning, match="was deleted"), pytest.raises(ZooError, match="answers 404"):
            fetch(entry, cache=tmp_path)
        assert in_cache(tmp_path) == {}

    def test_a_link_to_nothing_is_replaced(self, server, tmp_path):
        entry = make_entry(CONTENT, server("good"))
        (tmp_path / entry.file).symlink_to(tmp_path / "nowhere")
        with pytest.warns(UserWarning, match="is not there; it was deleted"):
            fetch(entry, cache=tmp_path)
        assert in_cache(tmp_path) == {entry.file: CONTENT}

    def test_remove(self, server, tmp_path):
        entry = make_entry(CONTENT, server("good"))
        assert not remove_cached(entry, tmp_path)
        fetch(entry, cache=tmp_path)
        assert remove_cached(entry, tmp_path)
        keep(entry, tmp_path, b"x")
        assert remove_cached(entry, tmp_path)
        assert in_cache(tmp_path) == {}

    def test_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SOLO_FROSSL_HOME", str(tmp_path))
        assert cache_folder() == tmp_path / "zoo"
        assert cache_folder("~/there") == Path.home() / "there"
        monkeypatch.delenv("SOLO_FROSSL_HOME")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert cache_folder() == tmp_path / "xdg" / "solo_frossl" / "zoo"


class TestResume:
    def test_the_rest_only_and_only_of_the_same_file(self, server, tmp_path):
        """A download that a place of the same address began, by its ETag."""
        entry = make_entry(CONTENT, server("wait"))
        server.released.clear()
        with pytest.raises(ZooError, match="hangs"):
            fetch(entry, cache=tmp_path, timeout=1)
        assert part_of(entry, tmp_path).read_bytes() == CONTENT[:1500]
        server.released.set()
        fetch(entry, cache=tmp_path)
        last = server.requests[-1]
        assert (last.headers["range"], last.headers["if-range"]) == ("bytes=1500-", '"right"')
        assert in_cache(tmp_path) == {entry.file: CONTENT}

    def test_the_note_of_where_bytes_are_from(self, tmp_path):
        part = Part(tmp_path / "part")
        assert part.etag("https://a") is None
        part.describe("https://a", '"1"')
        assert (part.etag("https://a"), part.etag("https://b")) == ('"1"', None)
        for unfit in ('W/"1"', "", None):
            part.describe("https://a", unfit)
            assert part.etag("https://a") is None
        part.discard()
        assert os.listdir(tmp_path) == []

    def test_at_another_place(self, server, tmp_path):
        entry = make_entry(CONTENT, server("break_off"), server("good"))
        asked = len(server.requests)
        fetch(entry, cache=tmp_path)
        first, second = server.requests[asked:]
        assert "range" not in first.headers
        assert second.headers["range"] == "bytes=1500-"
        assert "if-range" not in second.headers
        assert (second.status, second.sent) == (206, 1500)

    @pytest.mark.parametrize("behaviour", GOOD)
    def test_what_was_kept_is_of_another_file(self, server, tmp_path, behaviour):
        entry = make_entry(CONTENT, server(behaviour))
        keep(entry, tmp_path, b"x" * 1000)
        fetch(entry, cache=tmp_path)
        assert in_cache(tmp_path) == {entry.file: CONTENT}

    @pytest.mark.parametrize("kept", [CONTENT, b"x" * 3000, b"x" * 3001, b""])
    def test_what_was_kept_is_all_of_it_or_more(self, server, tmp_path, kept):
        entry = make_entry(CONTENT, server("good"))
        keep(entry, tmp_path, kept)
        asked = len(server.requests)
        fetch(entry, cache=tmp_path)
        assert in_cache(tmp_path) == {entry.file: CONTENT}
        assert len(server.requests) - asked == (kept != CONTENT)

    def test_what_a_killed_process_leaves(self, server, tmp_path):
        entry = make_entry(CONTENT, server("good"))
        keep(entry, tmp_path, CONTENT[:100])
        (part_of(entry, tmp_path).parent / "tmp123").write_bytes(b"of pooch")
        (part_of(entry, tmp_path).parent / entry.file).write_bytes(CONTENT[:200])
        (part_of(entry, tmp_path).with_name("part.json")).write_bytes(b"{")
        fetch(entry, cache=tmp_path)
        assert in_cache(tmp_path) == {entry.file: CONTENT}

    def test_piece_by_piece(self, server, tmp_path):
        """A server that always breaks off half-way gets it done in the end."""
        entry = make_entry(CONTENT, server("break_off"))
        for _ in range(10):
            with pytest.raises(ZooError, match=r"bytes are kept|sends another"):
                fetch(entry, cache=tmp_path)
        assert len(part_of(entry, tmp_path).read_bytes()) > 2990
        fetch(make_entry(CONTENT, *[server("break_off")] * 3, server("good")), cache=tmp_path)
        assert server.requests[-1].sent < 10
        assert in_cache(tmp_path) == {entry.file: CONTENT}

    def test_a_faulty_answer_to_a_range_is_asked_again_for_all(self, server, tmp_path):
        for behaviour in ("wrong_range", "never_satisfiable", "lying_range"):
            entry = make_entry(CONTENT, server(behaviour))
            keep(entry, tmp_path, CONTENT[:1000])
            asked = len(server.requests)
            with pytest.raises(ZooError):
                fetch(entry, cache=tmp_path)
            assert ["range" in request.headers for request in server.requests[asked:]] == [True, False]
            assert in_cache(tmp_path) == {}


class TestDisk:
    def test_a_full_disk_is_told_and_leaves_nothing(self, server, tmp_path):
        entry = make_entry(CONTENT, server("good"), server("no_ranges"))
        part_of(entry, tmp_path).parent.mkdir(parents=True)
        part_of(entry, tmp_path).symlink_to("/dev/full")
        asked = len(server.requests)
        with pytest.raises(ZooError, match="No space left on device; 3000 bytes are needed") as caught:
            fetch(entry, cache=tmp_path)
        assert "SOLO_FROSSL_HOME" in str(caught.value)
        assert in_cache(tmp_path) == {}
        assert len(server.requests) - asked == 1

    def test_a_disk_that_is_full_in_the_end(self, server, tmp_path, monkeypatch):
        def no_room(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", no_room)
        with pytest.raises(ZooError, match="No space left on device; 3000 bytes are needed"):
            fetch(make_entry(CONTENT, server("good")), cache=tmp_path)
        assert in_cache(tmp_path) == {}

    def test_a_cache_that_cannot_be_made(self, server, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        cache = tmp_path / "file" / "cache"
        with pytest.raises(ZooError, match=r"there is no place to put it\n.*cache cannot be written: Not a directory"):
            fetch(make_entry(CONTENT, server("good")), cache=cache)
        (tmp_path / "a").write_bytes(CONTENT)
        assert fetch(make_entry(CONTENT, server("good"), f"file:{tmp_path}/a"), cache=cache) == tmp_path / "a"


# ------------------------------------------------------------------------------------------------------------ at random

ROUNDS = 80


def one_round(number: int, server, folder: Path) -> None:
    """Some places, in some order, with something in the cache before: what must hold holds."""
    draw = random.Random(number)
    behaviours = draw.choices([name for name in REASONS if name not in SLOW], k=draw.randint(0, 3))
    behaviours += draw.choices(SLOW, k=draw.random() < 0.12) + draw.choices(GOOD, k=draw.random() < 0.6)
    behaviours = behaviours or ["good"]
    draw.shuffle(behaviours)
    folder.mkdir()
    (folder / "wrong").write_bytes(CONTENT[:-1])
    places = [server(behaviour) for behaviour in behaviours]
    places.insert(draw.randint(0, len(places)), draw.choice(["file:wrong", "file:missing"]))
    entry, cache = make_entry(CONTENT, *places, folder=folder), folder / "cache"
    before = draw.choice(["nothing", "tampered", "truncated", "part", "other part", "litter"])
    if before in ("tampered", "truncated"):
        cache.mkdir()
        (cache / entry.file).write_bytes(b"x" * 3000 if before == "tampered" else CONTENT[:1234])
    elif before != "nothing":
        keep(entry, cache, b"?" * 1000 if before == "other part" else CONTENT[: draw.randint(0, 3000)])
        if before == "litter":
            (part_of(entry, cache).parent / "tmpabc").write_bytes(b"x")
            (part_of(entry, cache).parent / entry.file).write_bytes(b"x")
    whole = before in ("part", "litter") and part_of(entry, cache).stat().st_size == 3000
    told = f"round {number}: {behaviours}, {before}"

    error = ""
    try:
        path = fetch(entry, cache=cache, progress=False, timeout=3.0)
    except ZooError as refused:
        error = str(refused)
    if error:
        assert not set(behaviours) & set(GOOD), f"{told}: {error}"
        assert [place for place in places if f"  {place}: " not in error] == [], told
        left = in_cache(cache)
        part = left.pop(f".downloads/{entry.file}/part", None)
        assert part is None or 0 < len(part) < 3000, told
        assert set(left) <= ({f".downloads/{entry.file}/part.json"} if part else set()), told
    else:
        # A server that breaks off gives the rest of what was kept before, if that is little enough.
        fine = {*GOOD, *RESUMABLE} if before in ("part", "litter") or whole else {*GOOD}
        assert set(behaviours) & fine or whole, told
        assert path == cache / entry.file, told
        assert in_cache(cache) == {entry.file: CONTENT}, told


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*it was deleted and is fetched again")
def test_at_random(server, tmp_path):
    with ThreadPoolExecutor(12) as threads:
        rounds = [threads.submit(one_round, n, server, tmp_path / str(n)) for n in range(ROUNDS)]
    for done in rounds:
        done.result()
    assert len({request.path for request in server.requests}) >= len(REASONS) - 1  # all of them had their turn
