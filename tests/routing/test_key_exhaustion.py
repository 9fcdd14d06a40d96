from routing.key_exhaustion import HOUR_MS, MINUTE_MS, WORKS, Exhaustion, after, as_document, from_document

NOW = 1_800_000_000_000


def refused(known, code, wait=None, now=NOW):
    return after(known, code, wait, "openai", "f", now)


def test_spent_money_sets_a_key_aside_for_an_hour_then_for_two():
    once = refused(WORKS, "insufficient_quota")
    assert once.until == NOW + HOUR_MS
    later = once.until + 1
    assert refused(once, "insufficient_quota", now=later).until == later + 2 * HOUR_MS


def test_it_never_rests_longer_than_a_day():
    known = Exhaustion(NOW - 1, "insufficient_quota", 50)
    assert refused(known, "insufficient_quota").until == NOW + 24 * HOUR_MS
    assert refused(WORKS, "rate_limit_exceeded", 10**12).until == NOW + 24 * HOUR_MS


def test_fifty_calls_that_were_under_way_count_once():
    once = refused(WORKS, "insufficient_quota")
    again = once
    for _ in range(50):
        again = refused(again, "insufficient_quota", now=NOW + 1000)
    assert again == once


def test_a_rate_limit_rests_as_long_as_the_provider_says():
    assert refused(WORKS, "rate_limit_exceeded", 20_000).until == NOW + 20_000


def test_a_rate_limit_without_a_time_changes_nothing():
    assert refused(WORKS, "rate_limit_exceeded") is WORKS


def test_a_rate_limit_does_not_shorten_the_rest_of_a_spent_key():
    spent = refused(WORKS, "insufficient_quota")
    assert refused(spent, "rate_limit_exceeded", 1_000).until == spent.until


def test_a_refused_key_rests_some_minutes():
    assert refused(WORKS, "upstream_auth_failed").until == NOW + MINUTE_MS
    often = Exhaustion(NOW - 1, "upstream_auth_failed", 9)
    assert refused(often, "upstream_auth_failed").until == NOW + 15 * MINUTE_MS


def test_a_document_reads_back():
    known = refused(WORKS, "insufficient_quota")
    assert from_document(as_document(known)) == known


def test_a_spent_key_rests_until_the_month_turns_where_its_provider_says_so():
    days = 24 * HOUR_MS
    assert refused(WORKS, "insufficient_quota", 20 * days).until == NOW + 20 * days
    assert refused(WORKS, "insufficient_quota", 10**12).until == NOW + 32 * days
