"""Validating admission webhooks: who is asked about a write, and what becomes of the answer."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from kaito_ray.local.apiserver import cel
from kaito_ray.local.apiserver.resources import NAMESPACE, WEBHOOK, Kind
from kaito_ray.local.apiserver.selectors import by_label_selector
from kaito_ray.local.apiserver.status import ApiError, internal
from kaito_ray.local.apiserver.store import Store

Manifest = dict[str, Any]

_LIMIT_BYTES = 3 * 2**20
"""Longest answer that is read."""


@dataclass(frozen=True)
class Write:
    """What somebody is about to do. `new` is None for a deletion, `old` for a creation.

    `asked_as` is the kind in the version of the request, where a webhook is shown another one.
    """

    kind: Kind
    operation: str
    namespace: str
    name: str
    new: Manifest | None
    old: Manifest | None
    subresource: str = ""
    dry_run: bool = False
    options: Manifest | None = None
    asked_as: Kind | None = None


async def review(store: Store, write: Write) -> list[str]:
    """Ask every webhook that the write concerns, all at once, and return their warnings.

    Raises:
        ApiError: one of them denies it, or cannot be asked and its failure policy is Fail.
    """
    if write.kind.key == WEBHOOK.key:
        return []  # a broken webhook must stay deletable
    calls = [_call(hook, seen) for hook, seen in _concerned(store, write)]
    warnings: list[str] = []
    refusals: list[ApiError] = []
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, ApiError):
            refusals.append(result)
        elif isinstance(result, BaseException):
            raise result
        else:
            warnings += result
    if refusals:
        raise refusals[0]
    return warnings


def _concerned(store: Store, write: Write) -> Iterator[tuple[Mapping[str, Any], Write]]:
    """Yield each webhook that the write concerns, with the write in the version that the webhook asks for."""
    namespace = write.namespace or (write.name if write.kind.key == NAMESPACE.key else "")
    space = store.get(NAMESPACE.key, "", namespace) if namespace else None
    if write.kind.key == NAMESPACE.key:
        space = write.new or write.old
    for configuration in store.scan(WEBHOOK.key):
        for hook in configuration.get("webhooks") or ():
            seen = _as_the_rules_see_it(hook, write)
            if seen is None:
                continue
            if space is not None and not by_label_selector(hook.get("namespaceSelector") or {})(space):
                continue
            selected = by_label_selector(hook.get("objectSelector") or {})
            if any(one is not None and selected(one) for one in (write.new, write.old)):
                yield hook, seen


def _as_the_rules_see_it(hook: Mapping[str, Any], write: Write) -> Write | None:
    """Return the write as the first rule that matches it wants it, None where no rule does.

    With `matchPolicy: Equivalent` a rule for another version of the kind matches too, and is sent that version.
    """
    rules = [rule for rule in hook.get("rules") or () if _rule_matches(rule, write)]
    for rule in rules:
        if {"*", write.kind.version} & set(rule.get("apiVersions") or ()):
            return write
    if rules and write.kind.custom and hook.get("matchPolicy") != "Exact" and rules[0].get("apiVersions"):
        kind = replace(write.kind, version=rules[0]["apiVersions"][0])
        new, old = (one and {**one, "apiVersion": kind.api_version} for one in (write.new, write.old))
        return replace(write, kind=kind, new=new, old=old, asked_as=write.kind)
    return None


def _rule_matches(rule: Mapping[str, Any], write: Write) -> bool:
    """Say whether operation, group, resource and scope match; versions apart."""

    def admits(field: str, value: str) -> bool:
        return bool({"*", value} & set(rule.get(field) or ()))

    kind = write.kind
    called = f"{kind.plural}/{write.subresource}" if write.subresource else kind.plural
    names = {called, "*/*", f"{kind.plural}/*"} | ({f"*/{write.subresource}"} if write.subresource else {"*"})
    scope = {"*", "Namespaced" if kind.namespaced else "Cluster"}
    return (
        admits("operations", write.operation)
        and admits("apiGroups", kind.group)
        and bool(names & set(rule.get("resources") or ()))
        and rule.get("scope", "*") in scope
    )


def _conditions_hold(hook: Mapping[str, Any], request: Manifest) -> bool:
    """Say whether every `matchConditions` rule holds.

    Raises:
        ValueError: one cannot be evaluated, which counts as a webhook that cannot be asked.
    """
    variables = {"object": request["object"], "oldObject": request["oldObject"], "request": request}
    for condition in hook.get("matchConditions") or ():
        try:
            if cel.run(condition["expression"], variables) is not True:
                return False
        except Exception as error:  # whatever breaks inside an expression
            raise ValueError(f"matchConditions[{condition.get('name')}]: {error}") from error
    return True


async def _call(hook: Mapping[str, Any], write: Write) -> list[str]:
    name = hook["name"]
    if write.dry_run and hook.get("sideEffects") not in ("None", "NoneOnDryRun"):
        message = f'admission webhook "{name}" does not support dry run'
        raise ApiError(400, "BadRequest", message)
    request = _request(write)
    timeout_s = hook.get("timeoutSeconds", 10)
    try:
        if not _conditions_hold(hook, request["request"]):
            return []
        async with asyncio.timeout(timeout_s):
            answer = await asyncio.to_thread(_post, hook["clientConfig"], request, timeout_s)
        response = answer["response"]
        allowed = response["allowed"]
        if response.get("uid") != request["request"]["uid"]:
            raise ValueError("expected response.uid to be the uid of the request")  # noqa: TRY301 - one place for failures
    except (OSError, ValueError, KeyError, TypeError, TimeoutError, http.client.HTTPException) as error:
        if hook.get("failurePolicy", "Fail") == "Ignore":
            return []
        raise _unreachable(hook, timeout_s, error) from error
    warnings = [str(text) for text in response.get("warnings") or ()]
    if not allowed:
        raise _denied(name, response.get("status") or {}, warnings)
    return warnings


def _request(write: Write) -> Manifest:
    kind = write.kind
    gvk = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    gvr = {"group": kind.group, "version": kind.version, "resource": kind.plural}
    version = (write.asked_as or kind).version
    asked: Manifest = {
        "uid": str(uuid4()),
        "kind": gvk,
        "resource": gvr,
        "requestKind": {**gvk, "version": version},
        "requestResource": {**gvr, "version": version},
        "name": write.name,
        "operation": write.operation,
        "userInfo": {"username": "kaito-ray", "groups": ["system:masters", "system:authenticated"]},
        "object": write.new,
        "oldObject": write.old,
        "dryRun": write.dry_run,
        "options": write.options,
    }
    if write.namespace:
        asked["namespace"] = write.namespace
    if write.subresource:
        asked["subResource"] = asked["requestSubResource"] = write.subresource
    return {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": asked}


def _post(config: Mapping[str, Any], review: Manifest, timeout_s: float) -> Manifest:
    """Send the review and return the answer; runs in a thread, because http.client blocks."""
    if "url" not in config:
        service = config.get("service") or {}
        where = f"{service.get('namespace')}/{service.get('name')}"
        raise ValueError(f"service {where} cannot be reached from here: give clientConfig.url")
    parts = urlsplit(config["url"])
    bundle = config.get("caBundle")
    context = ssl.create_default_context(cadata=base64.b64decode(bundle).decode() if bundle else None)
    connection = http.client.HTTPSConnection(
        parts.hostname or "", parts.port or 443, timeout=timeout_s, context=context
    )
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        connection.request("POST", path, json.dumps(review), headers)
        response = connection.getresponse()
        body = response.read(_LIMIT_BYTES)
    finally:
        connection.close()
    if response.status != 200:
        raise ValueError(f"unexpected status {response.status}: {body[:200].decode(errors='replace')}")
    answer: Manifest = json.loads(body)
    return answer


def _denied(name: str, status: Mapping[str, Any], warnings: list[str]) -> ApiError:
    message = status.get("message") or status.get("reason") or ""
    words = f'admission webhook "{name}" denied the request'
    code = max(int(status.get("code") or 0), 400)
    text = f"{words}: {message}" if message else f"{words} without explanation"
    error = ApiError(code, status.get("reason") or "", text, status.get("details"))
    error.warnings = warnings
    return error


def _unreachable(hook: Mapping[str, Any], timeout_s: float, error: Exception) -> ApiError:
    url = hook["clientConfig"].get("url", "")
    joined = f"{url}{'&' if urlsplit(url).query else '?'}timeout={timeout_s}s"
    why = str(error)
    if isinstance(error, TimeoutError):
        why = "context deadline exceeded"
    elif isinstance(error, ConnectionRefusedError):
        why = f"dial tcp {urlsplit(url).netloc}: connect: connection refused"
    return internal(f'failed calling webhook "{hook["name"]}": failed to call webhook: Post "{joined}": {why}')
