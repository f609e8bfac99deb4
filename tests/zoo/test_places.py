"""Places are taken apart, and what could leave its folder is refused."""

from pathlib import Path

import pytest

from solo_frossl.zoo import parse_place


def test_kinds():
    assert parse_place("file:weights/a.safetensors").shipped
    assert parse_place("file:weights/a.safetensors").local(Path("/zoo")) == Path("/zoo/weights/a.safetensors")
    for text in ("file:/data/a.safetensors", "file:///data/a.safetensors"):
        place = parse_place(text)
        assert (place.kind, place.shipped, place.local(Path("/zoo"))) == ("file", False, Path("/data/a.safetensors"))
    assert parse_place("https://host:8000/a%20b?download=1").path == "https://host:8000/a%20b?download=1"
    place = parse_place("hf:me/my-zoo/weights/a.safetensors@refs/pr/1")
    assert (place.repo, place.path, place.revision) == ("me/my-zoo", "weights/a.safetensors", "refs/pr/1")
    assert parse_place("hf:me/my-zoo/a.safetensors").revision == "main"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "weights/a.safetensors",
        "ftp://host/a",
        "FILE:a",
        "file:",
        "file:../a.safetensors",
        "file:weights/../../a.safetensors",
        "file:weights//a.safetensors",
        "file:./a.safetensors",
        "file:weights/",
        "file:weights\\..\\a",
        "file:/data/../etc/passwd",
        "https:host/a",
        "https://",
        "https:///a",
        "https://host:port/a",
        "https://host/a b",
        "https://host/a\nHost: other",
        "https://me:secret@host/a",
        "hf:me",
        "hf:me/zoo",
        "hf:me/zoo/",
        "hf:../zoo/a",
        "hf:me/../a",
        "hf:me/zoo/../../other/zoo/a",
        "hf:me/zoo/a@",
        "hf:me/zoo/a@../b",
        "hf:me/zoo/a@x@y",
    ],
)
def test_what_is_refused(text):
    with pytest.raises(ValueError, match=r"place begins with|file: place|address|white space|hf:|is no branch"):
        parse_place(text)


def test_a_password_is_not_repeated():
    with pytest.raises(ValueError, match="at host holds a name or password") as caught:
        parse_place("https://me:secret@host/a")
    assert "secret" not in str(caught.value)
