import xml.etree.ElementTree as ET

import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.evaluation.report_page import LinePlot, PictureRow, Table, write_page


def page(tmp_path, *sections):
    write_page(tmp_path / "a.html", "A <title>", sections)
    text = (tmp_path / "a.html").read_text()
    body = text[text.index("<body>") : text.index("</html>")]
    return text, ET.fromstring(body.replace("&ndash;", "-"))  # well-formed, all closed


def test_tables_are_escaped_and_numbers_short(tmp_path):
    rows = [["a & <b>", 0.123456789, None], ["c", 7, float("nan")]]
    text, body = page(tmp_path, Table(heading="T", columns=["name", "x", "y"], rows=rows, note="n"))
    assert "A &lt;title&gt;" in text
    cells = [cell.text for cell in body.iter("td")]
    assert cells == ["a & <b>", "0.1235", "-", "c", "7", "-"]
    assert [p.text for p in body.iter("p")] == ["n"]


def test_lines_lie_within_the_plot_and_keep_their_order(tmp_path):
    series = {"before": [0.0, 5.0, 2.0], "after": [1.0, 1.0]}
    plot = LinePlot(heading="P", series=series, x_label="frame", y_label="codes")
    _, body = page(tmp_path, plot)
    lines = [
        [tuple(map(float, point.split(","))) for point in line.get("points").split()]
        for line in body.iter("polyline")
    ]
    assert [len(line) for line in lines] == [3, 2]
    (x0, y0), (x1, y1), (x2, y2) = lines[0]
    assert 0 < x0 < x1 < x2 <= 760 and y1 < y2 < y0 < 260
    assert lines[1][0][1] == lines[1][1][1]
    assert lines[1][1][0] == pytest.approx(x1)  # a shorter series ends earlier


def test_long_and_level_series_are_drawn(tmp_path):
    series = {"long": list(np.arange(5000.0)), "zero": [0.0] * 9, "none": []}
    _, body = page(tmp_path, LinePlot(heading="P", series=series, x_label="x", y_label="y"))
    points = [len(line.get("points").split()) for line in body.iter("polyline")]
    assert points == [700, 9]
    _, body = page(tmp_path, LinePlot(heading="P", series={}, x_label="x", y_label="y"))
    assert not list(body.iter("svg"))


def test_pictures_are_embedded(tmp_path):
    row = PictureRow(heading="R", pictures=[("one", np.zeros((4, 5, 3), np.uint8))])
    text, _ = page(tmp_path, row)
    assert 'src="data:image/png;base64,' in text and "http" not in text


def test_a_page_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(ConfigError, match="Cannot write"):
        write_page(tmp_path / "none" / "a.html", "t", [])
    assert not list(tmp_path.iterdir())
