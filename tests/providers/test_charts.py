"""Shapes of charts: heights are shares of a round number, lines break where nothing is known."""

import pytest
from django.template.loader import render_to_string
from hypothesis import given
from hypothesis import strategies as st

from providers import charts
from providers.charts import HEIGHT, Series


def show(value: float) -> str:
    return f"{value:g}"


def test_a_stack_stands_on_the_bottom_and_its_parts_touch() -> None:
    drawn = charts.stacked(["Mon", "Tue"], [Series("a", [30, 10]), Series("b", [50, None])], show)

    low, high = drawn.columns[0].parts
    assert low.y + low.height == HEIGHT
    assert high.y + high.height == low.y
    assert low.height == 30 / 80 * HEIGHT
    assert drawn.columns[0].total == "80"
    assert [part.colour for part in drawn.columns[1].parts] == ["0"]


def test_the_grid_ends_at_a_round_number() -> None:
    drawn = charts.stacked(["now"], [Series("a", [73.0])], show)

    assert [row.label for row in drawn.rows] == ["0", "20", "40", "60", "80"]
    assert drawn.columns[0].parts[0].height == pytest.approx(73 / 80 * HEIGHT, abs=0.01)


@pytest.mark.parametrize(("most", "steps"), [(1, ["0", "1"]), (3, ["0", "1", "2", "3"]), (9, ["0", "5", "10"])])
def test_what_is_counted_is_measured_in_whole_steps(most: int, steps: list[str]) -> None:
    assert [row.label for row in charts.stacked(["now"], [Series("a", [most])], show).rows] == steps


@given(st.floats(1e-9, 1e12))
def test_every_value_fits_under_the_top_line(value: float) -> None:
    drawn = charts.stacked(["now"], [Series("a", [value])], show)

    part = drawn.columns[0].parts[0]
    assert part.y >= -0.01
    assert part.height >= HEIGHT / 2.6
    assert 2 <= len(drawn.rows) <= 5


def test_a_line_breaks_where_nothing_is_known() -> None:
    drawn = charts.lines(["a", "b", "c", "d"], [Series("p95", [1.0, 2.0, None, 4.0])], show)

    [line] = drawn.lines
    assert len(line.runs) == 1
    assert len(line.runs[0].split()) == 2
    assert line.dots == ((840.0, 0.0),)
    assert drawn.columns[2].said[0].text == "–"


def test_groups_beyond_the_palette_are_added_up_as_others() -> None:
    amounts = {f"model-{number}": [float(number), 1.0] for number in range(1, 10)}

    shown = charts.largest(amounts, "others")

    assert [one.name for one in shown] == [*(f"model-{number}" for number in range(9, 3, -1)), "others"]
    assert list(shown[-1].values) == [6.0, 3.0]
    assert shown[-1].tone == "quiet"


def test_a_fixed_tone_takes_no_colour_from_the_palette() -> None:
    drawn = charts.stacked(["now"], [Series("failed", [1], "bad"), Series("fine", [2])], show)

    assert [key.colour for key in drawn.legend] == ["bad", "0"]


def test_nothing_but_zero_is_called_empty() -> None:
    assert charts.stacked(["a"], [Series("x", [0])], show).empty
    assert charts.stacked([], [], show).empty
    assert charts.lines(["a"], [Series("x", [None])], show).empty
    assert charts.sparkline([0, 0, 0]) is None
    assert charts.sparkline([1]) is None


def test_a_sparkline_ends_at_both_edges() -> None:
    spark = charts.sparkline([0, 5, 10])

    assert spark is not None
    assert spark.line == "0,22 50,12 100,2"
    assert spark.area == "0,24 0,22 50,12 100,2 100,24"


def test_the_page_has_a_table_with_the_same_numbers_and_links() -> None:
    drawn = charts.stacked(["Mon", "Tue"], [Series("a<b", [1, 2]), Series("c", [3, 4])], show, ["/mon", "/tue"])

    text = render_to_string("gateway/chart.html", {"chart": drawn, "title": "Requests", "csv": "/all.csv"})

    assert '<a href="/tue">Tue</a></th><td class="gw-n">2</td><td class="gw-n">4</td><td class="gw-n">6</td>' in text
    assert "a&lt;b" in text
    assert "a<b" not in text
    assert 'aria-label="Requests"' in text
    assert '<a href="/all.csv">CSV</a>' in text
