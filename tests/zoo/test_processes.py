"""Real processes: several that ask at once, one that is killed, and places on a hub."""

import os
import random
import signal
import subprocess
import sys
from contextlib import ExitStack

import pytest
from zoo_server import make_entry, serve, wait_until

from solo_frossl.zoo import write_index

CONTENT = random.Random(1).randbytes(20_000)


@pytest.fixture
def download(tmp_path):
    """``download(places, ...)`` starts ``solo-frossl zoo download`` of a file of these bytes."""
    with ExitStack() as started:

        def start(*places, timeout=60, **environment):
            entry = make_entry(CONTENT, *places)
            write_index(tmp_path / "index.yaml", [entry])
            arguments = [entry.name, "--index", tmp_path / "index.yaml", "--timeout", timeout]
            process = subprocess.Popen(
                [sys.executable, "-m", "solo_frossl", "zoo", "download", *map(str, arguments)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | {"NO_PROXY": "*", "SOLO_FROSSL_HOME": str(tmp_path)} | environment,
                # Tests in a shell's background are given an ignored SIGINT, which a child would inherit.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
            started.callback(process.communicate)
            started.callback(process.kill)
            return process

        yield start


def test_of_several_that_ask_at_once_one_downloads(download, tmp_path):
    with serve(CONTENT) as server:
        first = download(server("wait"))
        wait_until(lambda: len(server.requests) == 1)
        others = [download(server("wait")) for _ in range(3)]
        for other in others:
            assert "waiting for another process" in other.stderr.readline()
        server.released.set()
        path = tmp_path / "zoo" / make_entry(CONTENT, "file:a").file
        for process in (first, *others):
            out, err = process.communicate(timeout=60)
            assert (process.returncode, out, err) == (0, f"{path}\n", "")
        assert [(request.status, request.sent) for request in server.requests] == [(200, len(CONTENT))]
    assert path.read_bytes() == CONTENT
    assert sorted(os.listdir(tmp_path / "zoo")) == [".downloads", path.name]
    assert os.listdir(tmp_path / "zoo" / ".downloads") == [f"{path.name}.lock"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_one_that_is_killed_is_continued_by_another(download, tmp_path, how):
    with serve(CONTENT) as server:
        first = download(server("wait"))
        part = tmp_path / "zoo" / ".downloads" / make_entry(CONTENT, "file:a").file / "part"
        wait_until(lambda: part.is_file() and part.stat().st_size == 10_000)
        first.send_signal(how)
        first.wait(timeout=60)
        assert part.stat().st_size == 10_000
        second = download(server("good"))
        out, err = second.communicate(timeout=60)
        assert (second.returncode, err) == (0, "")
        assert (server.requests[-1].status, server.requests[-1].sent) == (206, 10_000)
    assert os.listdir(tmp_path / "zoo" / ".downloads") == [f"{os.path.basename(out.strip())}.lock"]
    with open(out.strip(), "rb") as file:
        assert file.read() == CONTENT


class TestHub:
    """``hf:`` places, by huggingface_hub's own variable for another endpoint."""

    @pytest.fixture
    def hub(self, tmp_path):
        return {"HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": "hf_secret", "HF_HUB_OFFLINE": "0"}

    def test_address_and_login(self, download, hub, tmp_path):
        with serve(CONTENT) as server:
            process = download("hf:good/zoo/weights/ab.safetensors@refs/pr/1", HF_ENDPOINT=server.address, **hub)
            out, err = process.communicate(timeout=60)
            assert (process.returncode, err) == (0, "")
            request = server.requests[0]
            assert request.path == "/good/zoo/resolve/refs%2Fpr%2F1/weights/ab.safetensors"
            assert request.headers["authorization"] == "Bearer hf_secret"
        with open(out.strip(), "rb") as file:
            assert file.read() == CONTENT
        assert not (tmp_path / "hf").exists()

    def test_the_login_stays_with_the_hub(self, download, hub):
        with serve(CONTENT) as server:
            process = download("hf:other_host/zoo/a", HF_ENDPOINT=server.address, **hub)
            assert process.wait(timeout=60) == 0
            assert ["authorization" in request.headers for request in server.requests] == [True, False]

    def test_resumed_and_refused_as_elsewhere(self, download, hub):
        with serve(CONTENT) as server:
            places = ("hf:not_found/zoo/a", "hf:break_off/zoo/a", "hf:tampered/zoo/a@v1")
            process = download(*places, HF_ENDPOINT=server.address, **hub)
            _, err = process.communicate(timeout=60)
            assert process.returncode == 1
            assert "  hf:not_found/zoo/a: answers 404 Not Found\n" in err
            assert "  hf:break_off/zoo/a: broke off in the middle, 10000 bytes before the end\n" in err
            assert "  hf:tampered/zoo/a@v1: sends another file" in err
            assert server.requests[2].headers["range"] == "bytes=10000-"

    def test_offline(self, download, hub):
        with serve(CONTENT) as server:
            process = download("hf:good/zoo/a", HF_ENDPOINT=server.address, **(hub | {"HF_HUB_OFFLINE": "1"}))
            _, err = process.communicate(timeout=60)
            assert (process.returncode, server.requests) == (1, [])
            assert "  hf:good/zoo/a: is not asked: HF_HUB_OFFLINE is set\n" in err
