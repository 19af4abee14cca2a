from __future__ import annotations

import pytest

from kaito_ray.cli.offers import UnknownMachine, named, of_provider


def test_an_instance_type_is_found_whatever_its_case() -> None:
    assert named("standard_nc24ads_a100_v4").instance_type == "Standard_NC24ads_A100_v4"


def test_a_retired_one_is_replaced_by_its_successor() -> None:
    assert named("Standard_NC6s_v3").retired is False


def test_local_is_this_machine_with_its_true_capacity() -> None:
    here = named("local")
    assert (here.instance_type, here.device, here.gpu_count) == ("local", "cpu", 0)
    assert here.memory_bytes


def test_an_unknown_machine_is_refused_with_near_names() -> None:
    with pytest.raises(UnknownMachine, match=r"did you mean .*Standard_NC24ads_A100_v4"):
        named("Standard_NC24ads_A100")


def test_a_provider_offers_only_what_can_still_be_had() -> None:
    assert all(m.provider == "azure" and not m.retired for m in of_provider("Azure"))


def test_an_unknown_provider_is_refused_with_the_list() -> None:
    with pytest.raises(UnknownMachine, match=r"there are: .*azure"):
        of_provider("gcp")
