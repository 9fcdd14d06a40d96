from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inference.engine.text import AnswerText


def _through(text: AnswerText, pieces: list[bytes]) -> str:
    return "".join(text.push(piece) for piece in pieces) + text.finish()


def test_a_character_split_over_tokens_is_given_once_whole() -> None:
    text = AnswerText()
    assert [text.push(bytes([byte])) for byte in "🙂".encode()] == ["", "", "", "🙂"]


def test_bytes_that_are_no_utf8_become_replacement_characters() -> None:
    assert _through(AnswerText(), [b"a", b"\xc3", b"\xc3", b"b", b"\xf0"]) == "a\ufffd\ufffdb\ufffd"


def test_text_ends_before_a_stop_string() -> None:
    text = AnswerText(("END",))
    assert _through(text, [b"one ", b"E", b"N", b"D", b" two"]) == "one "
    assert text.stopped


def test_what_might_become_a_stop_string_is_held_back() -> None:
    text = AnswerText(("END",))
    assert text.push(b"one EN") == "one "
    assert text.push(b"D!") == ""


def test_what_did_not_become_a_stop_string_is_given() -> None:
    text = AnswerText(("END",))
    assert text.push(b"one EN") + text.push(b"OUGH") == "one ENOUGH"
    assert not text.stopped


def test_of_several_stop_strings_the_earliest_counts() -> None:
    assert _through(AnswerText(("cc", "bb")), [b"aa bb cc"]) == "aa "


def test_an_unfinished_stop_string_is_given_at_the_end() -> None:
    assert _through(AnswerText(("END",)), [b"one EN"]) == "one EN"


@given(st.text(max_size=60), st.lists(st.text(min_size=1, max_size=4), max_size=3), st.data())
def test_pieces_may_be_cut_anywhere(full: str, stops: list[str], data: st.DataObject) -> None:
    raw = full.encode("utf-8", "replace")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    pieces = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    said = _through(AnswerText(tuple(stops)), pieces)
    whole = raw.decode()
    assert whole.startswith(said)
    assert not any(stop in said for stop in stops)
    if not any(stop in whole for stop in stops):
        assert said == whole
