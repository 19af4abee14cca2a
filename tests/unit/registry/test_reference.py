from __future__ import annotations

import pytest

from kaito_ray.errors import InvalidWorkspace
from kaito_ray.registry.reference import Reference, is_loopback, parse

HEX = "a" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("adapter", Reference("docker.io", "library/adapter", "latest", None), id="Docker's own library"),
        pytest.param("team/adapter:v1", Reference("docker.io", "team/adapter", "v1", None), id="a user of Docker Hub"),
        pytest.param("index.docker.io/a/b", Reference("docker.io", "a/b", "latest", None), id="Docker Hub's old name"),
        pytest.param("ghcr.io/a/b/c:1.0", Reference("ghcr.io", "a/b/c", "1.0", None), id="a deep path"),
        pytest.param("localhost/a", Reference("localhost", "a", "latest", None), id="localhost needs no port"),
        pytest.param("127.0.0.1:5000/a:x", Reference("127.0.0.1:5000", "a", "x", None), id="a port is no tag"),
        pytest.param("[::1]:5000/a", Reference("[::1]:5000", "a", "latest", None), id="IPv6"),
        pytest.param(f"r.io/a@sha256:{HEX}", Reference("r.io", "a", None, f"sha256:{HEX}"), id="a digest alone"),
        pytest.param(f"r.io/a:t@sha256:{HEX}", Reference("r.io", "a", "t", f"sha256:{HEX}"), id="tag and digest"),
        pytest.param("GHCR.io/a", Reference("ghcr.io", "a", "latest", None), id="hosts have no case"),
    ],
)
def test_parse(text: str, expected: Reference) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no image reference"),
        ("ACR_REPO_HERE.azurecr.io/IMAGE_NAME_HERE:0.0.1", "registry host|no image reference"),
        ("ghcr.io/Team/adapter", "lower-case"),
        ("ghcr.io/a:" + "t" * 129, "invalid tag"),
        ("ghcr.io/a@sha256:abc", "digest"),
        ("ghcr.io/a@md5:abc", "digest"),
        ("ghcr.io//a", "no image reference"),
        ("evil.io:1@x/a", "digest"),
        ("https://ghcr.io/a", "registry host|no image reference"),
    ],
)
def test_what_is_no_reference_is_refused_by_field(text: str, words: str) -> None:
    with pytest.raises(InvalidWorkspace, match=words) as caught:
        parse(text, field="inference.adapters[0].source.image")
    assert caught.value.field == "inference.adapters[0].source.image"


def test_the_digest_counts_when_there_is_a_tag_too() -> None:
    assert parse(f"r.io/a:t@sha256:{HEX}").version == f"sha256:{HEX}"
    assert parse("r.io/a:t").version == "t"


def test_it_prints_as_it_was_meant() -> None:
    assert str(parse("team/a")) == "docker.io/team/a:latest"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("a", "https://registry-1.docker.io"),
        ("ghcr.io/a", "https://ghcr.io"),
        ("localhost:5000/a", "http://localhost:5000"),
        ("127.1.2.3:5000/a", "http://127.1.2.3:5000"),
        ("[::1]:5000/a", "http://[::1]:5000"),
        ("10.0.0.1:5000/a", "https://10.0.0.1:5000"),
        ("localhost.evil.io/a", "https://localhost.evil.io"),
    ],
)
def test_only_loopback_is_spoken_to_in_plain(text: str, url: str) -> None:
    assert parse(text).base_url == url


def test_loopback_by_name_or_address_only() -> None:
    assert is_loopback("localhost")
    assert not is_loopback("127.0.0.1.evil.io")
