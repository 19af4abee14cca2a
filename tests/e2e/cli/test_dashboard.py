"""A person opens the Ray dashboard in a browser, signs in with the token, and sees the model."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from kaito_ray.api import names
from tests.e2e.conftest import Plane

pytestmark = pytest.mark.engine

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 60_000


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        yield page
        browser.close()


def url(plane: Plane) -> str:
    found: dict[str, str] = json.loads(plane.cli("dashboard", "smollm2", "--output", "json"))
    return found["url"]


def sign_in(page: Page, token: str) -> None:
    page.get_by_placeholder("Enter your authentication token").fill(token)
    page.get_by_role("button", name="Submit").click()


def test_the_dashboard_is_closed_without_the_token(plane: Plane) -> None:
    address = url(plane)
    assert address.startswith("http://127.0.0.1:")
    assert httpx.get(f"{address}/api/serve/applications/").status_code == 401


def test_the_words_on_the_terminal_lead_in(plane: Plane) -> None:
    told = plane.cli("dashboard", "smollm2")
    assert url(plane) in told
    assert "kaito-ray dashboard --token" in told
    assert plane.cli("dashboard", "smollm2", "--token").strip() not in told


def test_a_wrong_token_is_refused_and_the_right_one_shows_the_application(plane: Plane, page: Page) -> None:
    token = plane.cli("dashboard", "smollm2", "--token").strip()
    page.goto(f"{url(plane)}/#/serve")
    sign_in(page, "wrong")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("alert")).to_be_visible(timeout=PATIENCE_MS)

    sign_in(page, token)
    expect(dialog).to_be_hidden(timeout=PATIENCE_MS)
    application = page.get_by_role("row").filter(has=page.get_by_role("link", name=names.APPLICATION, exact=True))
    expect(application).to_contain_text("RUNNING", timeout=PATIENCE_MS)
    deployment = page.get_by_role("row").filter(has=page.get_by_role("link", name=names.DEPLOYMENT, exact=True))
    expect(deployment).to_contain_text("HEALTHY", timeout=PATIENCE_MS)
