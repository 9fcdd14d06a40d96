from providers.config_changes import ADD, CHANGE, REMOVE, Change
from providers.config_review import Entry, Field, review

KINDS = {"providers": "provider", "teams": "team"}


def test_an_entry_that_does_not_change_is_told_apart_from_one_that_does():
    changes = [Change(CHANGE, "team", "", "a", {"enabled": [True, False]}), Change(ADD, "model", "p", "m", {})]
    found = review(changes, {}, {"providers": ["p", "q"], "teams": ["a", "b"]}, KINDS)
    assert found.counts == {"update": 1, "create": 1, "unchanged": 2}
    assert found.entries[0] == Entry("update", "team", "a", (Field("enabled", "true", "false"),))
    assert [(one.kind, one.name) for one in found.entries[2:]] == [("provider", "q"), ("team", "b")]


def test_what_is_refused_stands_first_with_its_reason_and_is_not_counted_as_written():
    changes = [Change(REMOVE, "team", "", "a", {}), Change(REMOVE, "team", "", "b", {})]
    found = review(changes, {("team", "a"): "It has keys.", ("alert rule", "alerts[0]"): "No name."}, {}, KINDS)
    assert [(one.verdict, one.name, one.why) for one in found.entries] == [
        ("refused", "a", "It has keys."),
        ("refused", "alerts[0]", "No name."),
        ("remove", "b", ""),
    ]
    assert found.writes == 1
