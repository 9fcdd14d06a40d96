import httpx
import pytest
from django.core.management import CommandError, call_command

from inference.vector_stores import chroma
from inference.vector_stores.opening import opened
from inference.vector_stores.store import StoreFailed
from providers.models import AuditEntry

pytestmark = [pytest.mark.django_db, pytest.mark.xdist_group("vector_stores")]


class Server:
    """Chroma as another program sees it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._base = f"{url}/api/v2/tenants/default_tenant/databases/default_database/collections"

    def ask(self, method: str, path: str = "", body: object = None):
        reply = httpx.request(method, self._base + path, json=body, timeout=60)
        assert reply.is_success, reply.text
        return reply.json() if reply.content else None

    def make(self, name: str, vectors: int, **more: object) -> str:
        key = self.ask("POST", "", {"name": name, **more})["id"]
        if vectors:
            page = {
                "ids": [f"id-{n}" for n in range(vectors)],
                "embeddings": [[n, 0.5, -n / 3] for n in range(vectors)],
                "documents": [f"text {n}" for n in range(vectors)],
                "metadatas": [{"n": n} for n in range(vectors)],
            }
            self.ask("POST", f"/{key}/add", page)
        return key

    @property
    def names(self) -> dict[str, int]:
        return {told["name"]: self.ask("GET", f"/{told['id']}/count") for told in self.ask("GET")}

    def of(self, name: str):
        return next(told for told in self.ask("GET") if told["name"] == name)


@pytest.fixture
def server(chroma_url: str) -> Server:
    server = Server(chroma_url)
    for name in server.names:
        server.ask("DELETE", f"/{name}")
    return server


def test_nothing_changes_before_it_is_told_to(server: Server, capsys: pytest.CaptureFixture) -> None:
    server.make("episodes", 3)
    server.make("empty", 0)

    call_command("migrate_collections", server.url)

    shown = capsys.readouterr().out
    assert "episodes_3" in shown
    assert "repeat with --apply" in shown
    assert server.names == {"episodes": 3, "empty": 0}


def test_collections_are_renamed_and_a_second_run_finds_nothing_to_do(server: Server) -> None:
    server.make("episodes", 3)

    for _ in range(2):
        call_command("migrate_collections", server.url, "--apply")

    assert server.names == {"episodes_3": 3}
    entry = AuditEntry.objects.get(target_type="vector_collection")
    assert (entry.action, entry.target_id, entry.after["name"]) == ("rename", "episodes", "episodes_3")


def test_a_copy_is_equal_and_keeps_the_measure_of_distance(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chroma, "_PAGE", 100)
    server.make("notes", 250, metadata={"owner": "me"}, configuration={"hnsw": {"space": "cosine"}})

    call_command("migrate_collections", server.url, "--apply", "--copy")

    assert server.names == {"notes": 250, "notes_3": 250}
    copied = server.of("notes_3")
    assert copied["configuration_json"]["hnsw"]["space"] == "cosine"
    assert copied["metadata"] == {"owner": "me", "gateway:copy_of": "notes"}


def test_a_copy_that_broke_off_is_written_on(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chroma, "_PAGE", 100)
    server.make("notes", 250)
    with opened(server.url) as store:
        (found,) = store.collections()

        def break_off(count: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.copy(found, "notes_3", break_off)
        assert store.resumable() == ["notes_3"]

    call_command("migrate_collections", server.url, "--apply", "--copy")

    assert server.names == {"notes": 250, "notes_3": 250}


def test_a_name_that_is_taken_ends_with_one(server: Server) -> None:
    server.make("abc", 2)
    server.make("abc_3", 1)

    with pytest.raises(SystemExit) as caught:
        call_command("migrate_collections", server.url, "--apply")
    assert caught.value.code == 1
    assert server.names == {"abc": 2, "abc_3": 1}


def test_a_server_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(CommandError, match="does not answer"):
        call_command("migrate_collections", "http://127.0.0.1:1")
    with pytest.raises(CommandError, match="chroma run --path"):
        call_command("migrate_collections", "/var/lib/chroma")
    with pytest.raises(CommandError, match="NO_SUCH_VARIABLE is not set"):
        call_command("migrate_collections", "env:NO_SUCH_VARIABLE")


def test_what_is_written_meanwhile_is_noticed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    key = server.make("notes", 3)
    with opened(server.url) as store:
        (found,) = store.collections()
        changed = {"ids": ["id-0"], "embeddings": [[9, 9, 9]]}
        original = chroma.Chroma._pages

        def pages(self, asked):
            yield from original(self, asked)
            if asked == key:
                made = server.of("notes_3")["id"]
                server.ask("POST", f"/{made}/update", changed)

        monkeypatch.setattr(chroma.Chroma, "_pages", pages)
        with pytest.raises(StoreFailed, match="differs from notes"):
            store.copy(found, "notes_3", lambda count: None)
