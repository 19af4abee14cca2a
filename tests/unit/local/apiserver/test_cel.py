"""Rules in CEL: what Kubernetes adds to the language, and what a failed rule says."""

from __future__ import annotations

from typing import Any

import pytest

from kaito_ray.local import crds
from kaito_ray.local.apiserver import cel
from kaito_ray.local.apiserver.schema import MISSING, validate


def holds(rule: str, value: Any, schema: dict[str, Any] | None = None, old: Any = MISSING) -> bool:
    return not validate(value, {**(schema or {}), "x-kubernetes-validations": [{"rule": rule}]}, "f", old)


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("self.find('^([^/]+)') == 'karpenter.sh'", "karpenter.sh/x"),
        ("self.findAll('[0-9]').size() == 2", "a1b2"),
        ("self.split(' ')[1] == 'b'", "a b"),
        ("self.lowerAscii() == 'ab' && self.substring(1) == 'B'", "AB"),
        ("isURL(self) && url(self).getHostname() == 'x.dev' && url(self).getPort() == '8'", "https://x.dev:8/p"),
        ("quantity(self).isGreaterThan(quantity('1Mi'))", "1Gi"),
        ("quantity('0.5').compareTo(quantity(self)) == 0 && isQuantity(self)", "500m"),
        ("!isQuantity(self)", "1GiB"),
        ("isIP(self) && !isCIDR(self)", "10.0.0.1"),
        ("self.isSorted() && self.indexOf(2) == 1 && self.sum() == 6", [1, 2, 3]),
        ("self.all(x, self.exists_one(y, y == x))", [1, 2]),
        ("has(self.a) && !has(self.b)", {"a": 1}),
        ("self.matches('^a+$')", "aaa"),
    ],
)  # fmt: skip
def test_the_functions_of_kubernetes_are_there(rule: str, value: Any) -> None:
    assert holds(rule, value)


def test_field_names_are_escaped() -> None:
    schema = {"properties": {"a-b": {}, "namespace": {}, "c.d": {}, "e__f": {}}}
    value = {"a-b": 1, "namespace": 2, "c.d": 3, "e__f": 4}
    rule = "self.a__dash__b == 1 && self.__namespace__ == 2 && self.c__dot__d == 3 && self.e__underscores__f == 4"
    assert holds(rule, value, schema)


def test_dates_and_durations_are_values_of_their_own_type() -> None:
    schema = {
        "properties": {"at": {"type": "string", "format": "date-time"}, "for": {"type": "string", "format": "duration"}}
    }
    value = {"at": "2026-01-02T00:00:00Z", "for": "90m"}
    assert holds("self.at > timestamp('2026-01-01T00:00:00Z') && self.__for__ > duration('1h')", value, schema)


def test_a_transition_rule_waits_for_an_old_value() -> None:
    assert holds("self == oldSelf", 1)
    assert holds("self == oldSelf", 1, old=1)
    assert not holds("self == oldSelf", 1, old=2)


def test_an_optional_old_value_is_asked_at_once() -> None:
    rule = {"rule": "oldSelf.hasValue() || self == 1", "optionalOldSelf": True}
    assert not validate(1, {"x-kubernetes-validations": [rule]}, "f")
    assert validate(2, {"x-kubernetes-validations": [rule]}, "f")


def test_an_entry_of_a_map_list_is_compared_with_its_namesake() -> None:
    item = {"type": "object", "x-kubernetes-validations": [{"rule": "self.v == oldSelf.v", "message": "fixed"}]}
    schema = {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": item}
    old = [{"k": "a", "v": 1}, {"k": "b", "v": 2}]
    assert not validate([{"k": "b", "v": 2}, {"k": "c", "v": 3}], schema, "f", old)
    (error,) = validate([{"k": "b", "v": 9}], schema, "f", old)
    assert str(error) == "f[0]: Invalid value: fixed"


@pytest.mark.parametrize(
    ("rule", "value", "words"),
    [
        ({"rule": "self > 1", "message": "more"}, 1, "f: Invalid value: 1: more"),
        ({"rule": "self  >\n1"}, 1, "f: Invalid value: 1: failed rule: self > 1"),
        ({"rule": "self > 1", "messageExpression": "'got ' + string(self)"}, 1, "f: Invalid value: 1: got 1"),
        ({"rule": "self > 1", "messageExpression": "self + 1", "message": "more"}, 1, "f: Invalid value: 1: more"),
        ({"rule": "self.a > 1", "message": "more", "fieldPath": ".a"}, {"a": 1}, "f.a: Invalid value: more"),
        ({"rule": "false", "reason": "FieldValueForbidden", "message": "no"}, 1, "f: Forbidden: no"),
        ({"rule": "false", "reason": "FieldValueRequired", "message": "no"}, 1, "f: Required value: no"),
    ],
)  # fmt: skip
def test_a_failed_rule_says_so(rule: dict[str, Any], value: Any, words: str) -> None:
    (error,) = validate(value, {"x-kubernetes-validations": [rule]}, "f")
    assert str(error) == words


def test_a_rule_that_breaks_is_a_failed_rule() -> None:
    (error,) = validate({}, {"x-kubernetes-validations": [{"rule": "self.a > 1"}]}, "f")
    assert "no such key: a" in str(error)


@pytest.mark.parametrize("rule", ["self >", "nosuch(self)", "self.nosuch()", "self.?a.orValue(1) == 1"])
def test_what_cannot_be_evaluated_is_unsupported(rule: str) -> None:
    with pytest.raises(cel.Unsupported):
        cel.program(rule)


def test_every_rule_of_the_vendored_crds_can_be_evaluated() -> None:
    count = 0
    for crd in crds.manifests():
        for version in crd["spec"]["versions"]:
            for _, rule in cel.all_rules(version["schema"]["openAPIV3Schema"]):
                cel.program(rule["rule"])
                count += 1
    assert count > 30
