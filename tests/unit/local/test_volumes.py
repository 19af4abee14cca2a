import pytest

from kaito_ray.local.volumes import Places, UnsupportedVolume, write_volumes

SECRET = {"secret": {"secretName": "s"}}


def mounted(tmp_path, secrets, volume=SECRET):
    """A volume, mounted at /mnt/keys into a pod of the namespace `team`."""
    pod = {"metadata": {"namespace": "team"}, "spec": {"volumes": [{"name": "keys", **volume}]}}
    container = {"volumeMounts": [{"name": "keys", "mountPath": "/mnt/keys"}]}
    places = Places(tmp_path / "pod", tmp_path / "claims", {"secret": secrets.get, "configMap": {}.get})
    return write_volumes(pod, container, places) / "mnt" / "keys"


def test_a_mounted_secret_appears_below_the_mount_root_closed_to_others(tmp_path):
    keys = mounted(tmp_path, {"s": {"team": b"k1"}})

    assert (keys / "team").read_bytes() == b"k1"
    assert (keys / "team").stat().st_mode & 0o077 == 0


def test_a_mounted_secret_follows_its_object(tmp_path):
    assert list(mounted(tmp_path, {}).iterdir()) == []
    mounted(tmp_path, {"s": {"a": b"1", "b": b"2"}})

    keys = mounted(tmp_path, {"s": {"b": b"3"}})

    assert {f.name: f.read_bytes() for f in keys.iterdir()} == {"b": b"3"}


def test_binary_entries_arrive_unchanged(tmp_path):
    assert (mounted(tmp_path, {"s": {"x": b"\xff\x00\r\n"}}) / "x").read_bytes() == b"\xff\x00\r\n"


def test_items_choose_keys_and_file_names(tmp_path):
    volume = {"secret": {"secretName": "s", "items": [{"key": ".dockerconfigjson", "path": "config.json"}]}}

    keys = mounted(tmp_path, {"s": {".dockerconfigjson": b"{}", "other": b""}}, volume)

    assert [f.name for f in keys.iterdir()] == ["config.json"]


def test_an_entry_cannot_leave_its_volume(tmp_path):
    volume = {"secret": {"secretName": "s", "items": [{"key": "k", "path": "../../escaped"}]}}

    keys = mounted(tmp_path, {"s": {"k": b"x"}}, volume)

    assert [f.name for f in keys.iterdir()] == ["escaped"]


def test_a_host_path_is_mounted_as_it_is(tmp_path):
    (tmp_path / "models").mkdir()

    assert mounted(tmp_path, {}, {"hostPath": {"path": str(tmp_path / "models")}}).resolve() == tmp_path / "models"


def test_a_claim_is_a_directory_beside_the_pods_which_outlives_them(tmp_path):
    checkpoints = mounted(tmp_path, {}, {"persistentVolumeClaim": {"claimName": "phi"}})

    assert checkpoints.resolve() == tmp_path / "claims" / "team_phi"


def test_a_kind_of_volume_that_one_machine_does_not_have_is_refused_in_words(tmp_path):
    with pytest.raises(UnsupportedVolume, match="'keys' is of kind nfs"):
        mounted(tmp_path, {}, {"nfs": {"server": "nas", "path": "/"}})


def test_a_mount_cannot_leave_the_pods_directory(tmp_path):
    pod = {"metadata": {"namespace": "team"}, "spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}
    container = {"volumeMounts": [{"name": "v", "mountPath": "/../../outside"}]}

    root = write_volumes(pod, container, Places(tmp_path / "pod", tmp_path / "claims", {}))

    assert (root / "outside").is_dir()
    assert not (tmp_path / "outside").exists()
