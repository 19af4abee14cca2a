import os
import stat
from pathlib import Path

import pytest

from kaito_ray.local import home as homes
from kaito_ray.local.home import AlreadyRunning, Home


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_home_is_closed_to_other_users(tmp_path):
    (tmp_path / "home").mkdir(mode=0o755)

    assert mode(Home.at(tmp_path / "home").root) == 0o700


def test_a_second_holder_is_refused_by_name_of_the_first(tmp_path):

    home = Home.at(tmp_path)
    with home.held(), pytest.raises(AlreadyRunning, match=f"{tmp_path} .*process {os.getpid()}"), home.held():
        pass


def test_the_home_can_be_held_again_after_it_was_let_go(tmp_path):
    home = Home.at(tmp_path)
    with home.held():
        pass
    with home.held():
        assert home.holder() is not None
    assert home.holder() is None


def test_nobody_holds_a_home_that_was_never_used(tmp_path):
    assert Home(tmp_path / "nowhere").holder() is None


def test_private_files_are_readable_by_their_owner_alone(tmp_path):
    homes.write_private(tmp_path / "deep" / "token", "secret")

    assert mode(tmp_path / "deep" / "token") == 0o600
    assert (tmp_path / "deep" / "token").read_text() == "secret"


def test_a_half_written_record_counts_as_none(tmp_path):
    (tmp_path / "record").write_text('{"pid": 1')

    assert homes.read_json(tmp_path / "record") == {}
    assert homes.read_json(tmp_path / "absent") == {}


def test_the_environment_names_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("KAITO_RAY_HOME", str(tmp_path))
    assert homes.default_home() == tmp_path
    monkeypatch.delenv("KAITO_RAY_HOME")
    assert homes.default_home() == Path.home() / ".kaito-ray"
