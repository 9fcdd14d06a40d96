from __future__ import annotations

import socket
from typing import Any

import pytest
from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_what_a_page_is_made_to_ask_elsewhere_never_leaves(browser: Browser, live_server: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        page = browser.new_page()
        page.goto(f"{live_server.url}/admin/login/")
        refused = page.evaluate(
            """async elsewhere => {
                const refused = [];
                document.addEventListener('securitypolicyviolation', event => refused.push(event.effectiveDirective));
                await fetch(elsewhere).catch(() => null);
                const picture = new Image();
                await new Promise(done => { picture.onerror = done; picture.src = elsewhere; });
                // The page hears of it in a task of its own, which may come after the picture's.
                for (let look = 0; look < 3000 && refused.length < 2; look += 1) await new Promise(done => setTimeout(done, 20));
                return refused;
            }""",
            f"http://127.0.0.1:{elsewhere.getsockname()[1]}/?told=secret",
        )
        page.close()
        assert set(refused) == {"connect-src", "img-src"}
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
