from django.test import AsyncRequestFactory, RequestFactory

from providers import streaming


def test_a_synchronous_server_gets_the_parts_as_they_are() -> None:
    assert list(streaming.parts_for(RequestFactory().get("/"), ["a", "b"])) == ["a", "b"]


async def test_an_asynchronous_server_reads_one_part_after_the_other() -> None:
    read: list[str] = []
    lines = (read.append(name) or name for name in ("a", "b", "c"))
    parts = streaming.parts_for(AsyncRequestFactory().get("/"), lines)
    assert (await anext(parts), read) == ("a", ["a"])
    assert [part async for part in parts] == ["b", "c"]


def test_lines_are_put_together_and_none_is_lost() -> None:
    lines = [f"{number}\n" for number in range(1201)]
    parts = list(streaming.together(lines))
    assert (len(parts), "".join(parts)) == (3, "".join(lines))
    assert list(streaming.together([])) == []
