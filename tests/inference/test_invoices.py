from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from inference.invoices import ANTHROPIC, OPENAI, Billed, Layout, Unreadable, read

DAY = date(2026, 11, 3)


def told(text: str, layout: Layout | None = None, **columns: str) -> dict:
    return read(text.strip().splitlines(), layout, columns).billed


def test_openai_s_usage_export_is_added_up_by_day() -> None:
    found = told(
        """
start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,user_id,api_key_id,model,batch,input_tokens,output_tokens,input_cached_tokens
1793664000,1793664060,2026-11-03T00:00:00+00:00,2026-11-03T00:01:00+00:00,p,3.0,,k,gpt-5,,4212,1673,100
1793664060,1793664120,2026-11-03T00:01:00+00:00,2026-11-03T00:02:00+00:00,p,2,,k,gpt-5,,1000,10,
1793750340,1793750400,2026-11-03T23:59:00+00:00,2026-11-04T00:00:00+00:00,,,,,,,,,
"""
    )
    assert found == {(DAY, "gpt-5"): Billed(5, 5212, 100, 1683, None)}


def test_openai_s_cost_export_tells_money_by_line_item() -> None:
    found = told(
        """
start_time,end_time,amount_value,amount_currency,line_item,project_id
1793664000,1793750400,1.25,usd,"gpt-5, input",p
1793664000,1793750400,0.5,usd,"gpt-5, output",p
"""
    )
    assert found == {(DAY, "gpt-5"): Billed(cost=Decimal("1.75"))}


def test_anthropic_s_token_export_counts_the_cache_as_input() -> None:
    found = told(
        """
usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens,web_search_count
2026-11-03,claude-sonnet-4-5-20250929,k,Default,standard,≤ 200k,100,20,3,4000,50,0
"""
    )
    assert found == {(DAY, "claude-sonnet-4-5-20250929"): Billed(None, 4123, 4000, 50, None)}


def test_anthropic_s_cost_export_tells_money() -> None:
    found = told(
        """
usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,list_price_usd,cost_type
2026-11-03,Claude Sonnet 4.5,Default,k,message,≤ 200k,input_no_cache,0.05,0.05,token
2026-11-03,Claude Sonnet 4.5,Default,k,message,≤ 200k,output,1.10,1.10,token
"""
    )
    assert found == {(DAY, "Claude Sonnet 4.5"): Billed(cost=Decimal("1.15"))}


def test_other_files_are_read_by_the_names_of_their_columns() -> None:
    found = told('date,sku,a,b,total\n2026-11-03,m,"1,000",5,$2.50', day="date", model="sku", input="a,b", cost="total")
    assert found == {(DAY, "m"): Billed(input_tokens=1005, cost=Decimal("2.50"))}


@pytest.mark.parametrize(
    ("text", "columns", "says"),
    [
        ("", {}, "empty"),
        ("a,b\n1,2", {}, "which column holds the day"),
        ("date,sku\n1,2", {"day": "date", "model": "sku"}, "No column holds"),
        ("date,sku,n\n1,2,3", {"day": "date", "model": "sku", "input": "none"}, "no column 'none'"),
        ("date,sku,n\nsoon,m,3", {"day": "date", "model": "sku", "input": "n"}, "Line 2: 'soon' in column date"),
        ("date,sku,n\n2026-11-03,m,lots", {"day": "date", "model": "sku", "input": "n"}, "'lots' in column n"),
        ("date,sku,n\n2026-11-03,m,1.5", {"day": "date", "model": "sku", "input": "n"}, "whole number"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(text, columns, says) -> None:
    with pytest.raises(Unreadable, match=says):
        told(text, **columns)


def test_layouts_can_be_named() -> None:
    assert told("start_time,model,input_tokens\n1793664000,m,7", OPENAI) == {(DAY, "m"): Billed(input_tokens=7)}
    with pytest.raises(Unreadable):
        told("start_time,model,input_tokens\n1793664000,m,7", ANTHROPIC)
