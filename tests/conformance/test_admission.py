"""Validating webhooks: asked, obeyed, and what happens where they cannot be asked."""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.conformance.conftest import GROUP, Kubectl, Raw, eventually, widget

HOST = os.environ.get("KAITO_RAY_CONFORMANCE_HOST", "127.0.0.1")
MERGE = "application/merge-patch+json"
PATH = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
Manifest = dict[str, Any]


class Webhook:
    """An HTTPS server that answers admission reviews with what the test says."""

    def __init__(self, directory: Path) -> None:
        self.asked: list[Manifest] = []
        self.answer: Callable[[Manifest], Manifest] = lambda _: {"allowed": True}
        self.bundle, files = certificate(directory)
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                request = review["request"]
                webhook.asked.append(request)
                body = {**review, "response": {"uid": request["uid"], **webhook.answer(request)}}
                del body["request"]
                data = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                with suppress(OSError):  # a server that has given up does not read the answer
                    self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1" if HOST == "127.0.0.1" else "0.0.0.0", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"https://{HOST}:{self.server.server_address[1]}/validate"


def certificate(directory: Path) -> tuple[str, tuple[Path, Path]]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "conformance")])
    try:
        host: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(HOST))
    except ValueError:
        host = x509.DNSName(HOST)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(hours=1))
        .not_valid_after(datetime.now(UTC) + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([host]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = directory / "tls.crt", directory / "tls.key"
    pem = made.public_bytes(serialization.Encoding.PEM)
    files[0].write_bytes(pem)
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return base64.b64encode(pem).decode(), files


@pytest.fixture
def webhook(tmp_path: Path) -> Iterator[Webhook]:
    made = Webhook(tmp_path)
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def ours(namespace: str, widgets: str) -> str:
    return f"{widgets}/namespaces/{namespace}/widgets"


@pytest.fixture
def configure(raw: Raw, namespace: str, webhook: Webhook, ours: str) -> Iterator[Callable[..., None]]:
    """Register the webhook for our kind in the test's own namespace."""
    name = f"conformance-{secrets.token_hex(4)}"

    def register(**changes: Any) -> None:
        hook = {
            "name": "check.conformance.dev",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "clientConfig": {"url": webhook.url, "caBundle": webhook.bundle},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "rules": [
                {
                    "operations": ["CREATE", "UPDATE", "DELETE"],
                    "apiGroups": [GROUP],
                    "apiVersions": ["v1"],
                    "resources": ["widgets"],
                }
            ],
            **changes,
        }
        kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
        raw("POST", PATH, {**kind, "metadata": {"name": name}, "webhooks": [hook]})
        if webhook.url.startswith(hook["clientConfig"]["url"]) and not hook.get("objectSelector"):
            # A real cluster takes a moment to hear of a new webhook.
            eventually(lambda: raw.full("POST", ours, widget("probe"), dryRun="All")[0] and webhook.asked)
            webhook.asked.clear()

    yield register
    raw("DELETE", f"{PATH}/{name}")


def test_an_allowed_write_passes_and_the_review_tells_all(
    raw: Raw, ours: str, namespace: str, webhook: Webhook, configure: Any
) -> None:
    configure()
    raw("POST", ours, widget(color="red"))
    raw("PATCH", f"{ours}/a", {"spec": {"size": 4}}, type=MERGE)
    raw("DELETE", f"{ours}/a")
    create, update, delete = webhook.asked
    assert [one["operation"] for one in webhook.asked] == ["CREATE", "UPDATE", "DELETE"]
    assert create["kind"] == {"group": GROUP, "version": "v1", "kind": "Widget"}
    assert create["resource"] == {"group": GROUP, "version": "v1", "resource": "widgets"}
    assert (create["namespace"], create["name"], create["object"]["spec"]["mode"]) == (namespace, "a", "fast")
    assert create["oldObject"] is None
    assert (update["oldObject"]["spec"]["size"], update["object"]["spec"]["size"]) == (3, 4)
    assert delete["object"] is None
    assert delete["oldObject"]["spec"]["size"] == 4


def test_a_denied_write_is_refused_in_the_webhooks_words(
    kubectl: Kubectl, raw: Raw, ours: str, webhook: Webhook, configure: Any
) -> None:
    configure()
    webhook.answer = lambda _: {"allowed": False, "status": {"code": 422, "message": "spec.size: too big for today"}}
    words = 'admission webhook "check.conformance.dev" denied the request: spec.size: too big for today'
    answer = raw.refused("POST", ours, widget())
    assert (answer["code"], answer["message"]) == (422, words)
    assert words in kubectl.apply(widget(), fails=True).err
    webhook.answer = lambda _: {"allowed": False}
    answer = raw.refused("POST", ours, widget())
    assert answer["code"] == 400
    assert answer["message"] == 'admission webhook "check.conformance.dev" denied the request without explanation'


def test_warnings_reach_the_person(kubectl: Kubectl, webhook: Webhook, configure: Any) -> None:
    configure()
    webhook.answer = lambda _: {"allowed": True, "warnings": ["this type was retired"]}
    answer = kubectl.apply(widget())
    assert "created" in answer.out
    assert "Warning: this type was retired" in answer.err


def test_objects_are_chosen_by_label(raw: Raw, ours: str, webhook: Webhook, configure: Any) -> None:
    webhook.answer = lambda _: {"allowed": False, "status": {"message": "no"}}
    configure(objectSelector={"matchLabels": {"judge": "me"}})
    labelled = widget("b")
    labelled["metadata"]["labels"] = {"judge": "me"}
    eventually(lambda: raw.full("POST", ours, labelled, dryRun="All")[0] == 400)
    raw("POST", ours, widget("a"))
    assert raw.refused("POST", ours, labelled)["message"].endswith("denied the request: no")


def test_one_that_cannot_be_reached_stops_writes_or_not_as_it_says(
    raw: Raw, ours: str, webhook: Webhook, configure: Any
) -> None:
    configure(clientConfig={"url": f"https://{HOST}:1/x", "caBundle": webhook.bundle}, failurePolicy="Fail")
    answer = eventually(lambda: (refused := raw.full("POST", ours, widget(), dryRun="All"))[0] == 500 and refused[1])
    assert answer["message"].startswith(
        'Internal error occurred: failed calling webhook "check.conformance.dev": failed to call webhook: Post'
    )


def test_one_that_may_fail_is_passed_over(raw: Raw, ours: str, webhook: Webhook, configure: Any) -> None:
    configure(clientConfig={"url": f"https://{HOST}:1/x", "caBundle": webhook.bundle}, failurePolicy="Ignore")
    assert raw("POST", ours, widget())["metadata"]["name"] == "a"


def test_one_that_is_too_slow_is_given_up(raw: Raw, ours: str, webhook: Webhook, configure: Any) -> None:
    configure(timeoutSeconds=1)

    def slow(_: Manifest) -> Manifest:
        time.sleep(5)
        return {"allowed": True}

    webhook.answer = slow
    started = time.monotonic()
    answer = raw.refused("POST", ours, widget())
    assert time.monotonic() - started < 4
    assert answer["code"] == 500
    assert "context deadline exceeded" in answer["message"] or "Client.Timeout exceeded" in answer["message"]


def test_dry_run_does_not_ask_one_with_side_effects(raw: Raw, ours: str, configure: Any) -> None:
    configure(sideEffects="NoneOnDryRun")
    assert raw("POST", ours, widget("b"), dryRun="All")["metadata"]["name"] == "b"


def test_writes_elsewhere_are_not_its_business(
    raw: Raw, ours: str, namespace: str, webhook: Webhook, configure: Any
) -> None:
    webhook.answer = lambda _: {"allowed": False}
    configure()
    raw("POST", f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": "a"}})
    assert webhook.asked == []


def test_a_write_in_another_version_is_shown_in_the_one_that_the_webhook_knows(
    raw: Raw, ours: str, webhook: Webhook, configure: Any
) -> None:
    configure()
    body = {**widget(), "apiVersion": f"{GROUP}/v1alpha1"}
    raw("POST", ours.replace("/v1/", "/v1alpha1/"), body)
    (asked,) = webhook.asked
    assert (asked["kind"]["version"], asked["object"]["apiVersion"]) == ("v1", f"{GROUP}/v1")
    assert asked["requestKind"]["version"] == "v1alpha1"


def test_match_conditions_narrow_what_is_asked(raw: Raw, ours: str, webhook: Webhook, configure: Any) -> None:
    configure(matchConditions=[{"name": "big", "expression": "object.spec.size > 2"}])
    raw("POST", ours, widget("small", size=1))
    raw("POST", ours, widget("big", size=5))
    assert [one["name"] for one in webhook.asked] == ["big"]
