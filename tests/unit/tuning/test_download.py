from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from kaito_ray.errors import InvalidWorkspace
from tuning.download import DownloadFailed, fetch, file_name, shown

PUBLIC = "93.184.215.14"
URL = "https://data.example/a/train.jsonl?sig=secret"
Handler = Callable[[httpx.Request], httpx.Response]


def _fetch(to: Path, handler: Handler, *, url: str = URL, address: str = PUBLIC, **options: object) -> Path:
    return fetch(
        [url],
        to,
        resolve=lambda _: [address],
        transport=httpx.MockTransport(handler),
        sleep=lambda _: None,
        **options,  # type: ignore[arg-type]
    )


def _never(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"{request.url} was asked")


def test_a_file_arrives_under_its_own_name_without_the_query(tmp_path: Path) -> None:
    _fetch(tmp_path, lambda _: httpx.Response(200, stream=httpx.ByteStream(b"data")))
    (file,) = tmp_path.iterdir()
    assert (file.name, file.read_bytes()) == (file_name(URL), b"data")
    assert file.name.endswith("-train.jsonl")
    assert "secret" not in file.name + shown(URL)


def test_the_checked_address_is_connected_to_under_the_sites_name(tmp_path: Path) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, stream=httpx.ByteStream(b"x"))

    _fetch(tmp_path, answer)
    assert (asked[0].url.host, asked[0].headers["Host"]) == (PUBLIC, "data.example")
    assert asked[0].extensions["sni_hostname"] == "data.example"


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.8", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1"),
        *("::1", "fe80::1", "fd00::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254"),
    ],
)
def test_addresses_inside_are_refused_after_dns(tmp_path: Path, address: str) -> None:
    with pytest.raises(InvalidWorkspace, match="not a public address"):
        _fetch(tmp_path, _never, address=address)


def test_a_redirect_inside_is_refused(tmp_path: Path) -> None:
    resolved = {"data.example": PUBLIC, "metadata.example": "169.254.169.254"}
    moved = httpx.MockTransport(lambda _: httpx.Response(302, headers={"Location": "http://metadata.example/latest"}))
    with pytest.raises(InvalidWorkspace, match=r"leads to 169\.254\.169\.254"):
        fetch([URL], tmp_path, resolve=lambda host: [resolved[host]], transport=moved, sleep=lambda _: None)


def test_one_address_inside_among_several_is_enough_to_refuse(tmp_path: Path) -> None:
    with pytest.raises(InvalidWorkspace, match=r"10\.0\.0\.1"):
        fetch([URL], tmp_path, resolve=lambda _: [PUBLIC, "10.0.0.1"], transport=httpx.MockTransport(_never))


def test_a_redirect_to_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidWorkspace, match="no http or https"):
        _fetch(tmp_path, lambda _: httpx.Response(302, headers={"Location": "file:///etc/passwd"}))


def test_endless_redirects_end(tmp_path: Path) -> None:
    with pytest.raises(InvalidWorkspace, match="redirects"):
        _fetch(tmp_path, lambda _: httpx.Response(302, headers={"Location": "/again"}))


@pytest.mark.parametrize("allowed", ["data.example", "127.0.0.0/8", "127.0.0.1"])
def test_what_is_allowed_by_name_or_network_is_fetched(tmp_path: Path, allowed: str) -> None:
    _fetch(tmp_path, lambda _: httpx.Response(200, stream=httpx.ByteStream(b"x")), address="127.0.0.1", allow=[allowed])
    assert len(list(tmp_path.iterdir())) == 1


def test_a_broken_download_goes_on_where_it_stopped(tmp_path: Path) -> None:
    ranges: list[str | None] = []

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise httpx.ReadError("gone")

    def answer(request: httpx.Request) -> httpx.Response:
        ranges.append(request.headers.get("Range"))
        if len(ranges) == 1:
            return httpx.Response(200, content=broken(), headers={"Content-Length": "8"})
        return httpx.Response(206, stream=httpx.ByteStream(b"done"))

    _fetch(tmp_path, answer)
    assert ranges == [None, "bytes=4-"]
    assert (tmp_path / file_name(URL)).read_bytes() == b"halfdone"


def test_a_server_that_starts_over_is_followed(tmp_path: Path) -> None:
    (tmp_path / f".{file_name(URL)}.part").write_bytes(b"old")
    _fetch(tmp_path, lambda _: httpx.Response(200, stream=httpx.ByteStream(b"new")))
    assert (tmp_path / file_name(URL)).read_bytes() == b"new"


def test_what_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / file_name(URL)).write_bytes(b"there")
    _fetch(tmp_path, _never)


def test_data_without_end_is_cut_off(tmp_path: Path) -> None:
    with pytest.raises(InvalidWorkspace, match="more than 10 bytes"):
        _fetch(tmp_path, lambda _: httpx.Response(200, stream=httpx.ByteStream(b"x" * 11)), limit_bytes=10)


def test_a_missing_file_is_the_authors_to_correct(tmp_path: Path) -> None:
    with pytest.raises(InvalidWorkspace, match="answered 404"):
        _fetch(tmp_path, lambda _: httpx.Response(404))


def test_a_server_that_stays_down_is_given_up_without_showing_the_signature(tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="answered 503") as caught:
        _fetch(tmp_path, lambda _: httpx.Response(503))
    assert "secret" not in str(caught.value)
