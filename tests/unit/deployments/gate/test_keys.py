from pathlib import Path

from deployments.gate import keys
from deployments.gate.gate import Gate
from deployments.gate.watch import EMPTY_LOOKS, KeyWatch


def test_files_of_a_mounted_secret_are_keys_by_name(tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "alice").write_text("sk-alice\n")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "alice").symlink_to("..data/alice")
    assert keys.read(tmp_path) == {"alice": b"sk-alice"}


def test_a_secret_that_is_not_mounted_has_no_keys(tmp_path: Path) -> None:
    assert keys.read(tmp_path / "none") == {}


def test_the_ring_keeps_no_key() -> None:
    ring = keys.Keyring({"alice": b"sk-alice"})
    assert ring.name_of(b"sk-alice") == "alice"
    assert ring.name_of(b"sk-alic") is None
    assert b"sk-alice" not in repr(vars(ring)).encode()


class Folder:
    """Keys as a test changes them."""

    def __init__(self) -> None:
        self.keys: dict[str, bytes] = {"alice": b"one"}
        self.broken = False

    def read(self, _: Path) -> dict[str, bytes]:
        if self.broken:
            raise FileNotFoundError("alice")
        return self.keys


async def test_keys_follow_the_folder() -> None:
    folder, gate = Folder(), Gate(batch=1)
    watch = KeyWatch(gate, Path(), read=folder.read)
    await watch.look()
    assert gate.caller(b"one") is not None
    folder.keys = {"alice": b"two"}
    await watch.look()
    assert gate.caller(b"one") is None
    assert gate.caller(b"two") is not None


async def test_a_look_that_fails_changes_nothing() -> None:
    folder, gate = Folder(), Gate(batch=1)
    watch = KeyWatch(gate, Path(), read=folder.read)
    await watch.look()
    folder.broken = True
    await watch.look()
    assert gate.caller(b"one") is not None


async def test_the_last_key_is_revoked_once_it_stays_away() -> None:
    folder, gate = Folder(), Gate(batch=1)
    watch = KeyWatch(gate, Path(), read=folder.read)
    await watch.look()
    folder.keys = {}
    for _ in range(EMPTY_LOOKS - 1):
        await watch.look()
    assert gate.caller(b"one") is not None
    await watch.look()
    assert gate.caller(b"one") is None
