"""A log-in with OpenID in a real browser, by a real provider on loopback."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dashboard.dashboard_process import dashboard, free_port

CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]


@pytest.fixture
def provider() -> Iterator[str]:
    mock = pytest.importorskip("oidc_provider_mock")
    with mock.run_server_in_thread() as server:
        yield f"http://localhost:{server.server_port}"


@pytest.fixture
def server(demo_home: Path, provider: str, tmp_path: Path) -> Iterator[str]:
    """`ratchet dashboard --oidc` as a user starts it."""
    port = free_port()
    address = f"http://localhost:{port}"
    secrets = tmp_path / "secrets.toml"
    secrets.write_text(
        "[auth]\n"
        f'redirect_uri = "{address}/oauth2callback"\n'
        'cookie_secret = "a long secret of this test alone"\n'
        'client_id = "ratchet"\n'
        'client_secret = "known to both"\n'
        f'server_metadata_url = "{provider}/.well-known/openid-configuration"\n'
    )
    with dashboard(demo_home, port, "--oidc", str(secrets)):
        yield address


@pytest.mark.timeout(300)
def test_nothing_is_seen_before_the_log_in(server: str, provider: str) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.set_default_timeout(90_000)
        for view in ("trend", "samples", ""):
            page.goto(f"{server}/{view}")
            page.get_by_role("button", name="Log in").wait_for()
            assert "demo" not in page.inner_text("[data-testid=stApp]")
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(f"{provider}/**")
        page.locator("input[name=sub]").fill("ana@example.org")
        page.get_by_role("button", name="Authorize").click()
        page.get_by_text("What needs a human").wait_for()
        assert page.url.startswith(server)
        assert "demo-support-bot" in page.inner_text("[data-testid=stApp]")
        browser.close()
