"""A page that shows an evaluation: tables, plots and pictures in one HTML file.

It needs no network and no script: plots are inline SVG, pictures are embedded. What is written in
it is escaped.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from facegan.errors import ConfigError
from facegan.image import encode_picture

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em;
  color: #1c2128; background: #fff; }
table { border-collapse: collapse; } th, td { padding: .3em .9em; text-align: right; }
th { border-bottom: 2px solid #888; } td { border-bottom: 1px solid #ddd; }
td:first-child, th:first-child { text-align: left; } figure { display: inline-block; margin: .3em; }
figcaption { font-size: 12px; color: #57606a; text-align: center; }
img { image-rendering: auto; max-width: 100%; } svg { max-width: 100%; height: auto; }
"""
# Told apart by people who see no red or no green, too.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 760, 260, 64, 40, 14
# A line is drawn through at most so many points; longer series are averaged down to them.
_MOST_POINTS = 700


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Rows under a heading.

    Attributes:
        heading: Above it.
        columns: Names of the columns; the first is that of the rows' names.
        rows: Cells; numbers are shown to four digits, None as a dash.
        note: Below it.
    """

    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LinePlot:
    """Lines over a common axis.

    Attributes:
        heading: Above it.
        series: Values by name, from x = 0 on in steps of one.
        x_label: Below the axis.
        y_label: Above the axis.
        note: Below it.
    """

    heading: str
    series: Mapping[str, Sequence[float]]
    x_label: str
    y_label: str
    note: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PictureRow:
    """Pictures beside each other.

    Attributes:
        heading: Above them.
        pictures: (caption, [H, W, 3] uint8).
    """

    heading: str
    pictures: Sequence[tuple[str, np.ndarray]]


Section = Table | LinePlot | PictureRow


def write_page(path: str | os.PathLike[str], title: str, sections: Sequence[Section]) -> None:
    """Writes a page, whole or not at all.

    Raises:
        ConfigError: The file cannot be written.
    """
    body = "\n".join(_draw(section) for section in sections)
    text = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_text(title)}'
        f"</title><style>{_STYLE}</style></head><body><h1>{_text(title)}</h1>\n{body}\n"
        "</body></html>\n"
    )
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ConfigError(f"Cannot write {path}: {error.strerror or error}.") from error


def _text(value: Any) -> str:
    return html.escape(str(value))


def _number(value: Any) -> str:
    if value is None:
        return "&ndash;"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "&ndash;"
    return _text(value)


def _draw(section: Section) -> str:
    heading = f"<h2>{_text(section.heading)}</h2>"
    if isinstance(section, PictureRow):
        return heading + "".join(_figure(*pair) for pair in section.pictures)
    note = f"<p>{_text(section.note)}</p>" if section.note else ""
    if isinstance(section, LinePlot):
        return heading + _plot(section) + note
    head = "".join(f"<th>{_text(name)}</th>" for name in section.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{_number(cell)}</td>" for cell in row) + "</tr>"
        for row in section.rows
    )
    return f"{heading}<table><tr>{head}</tr>{rows}</table>{note}"


def _figure(caption: str, picture: np.ndarray) -> str:
    data = base64.b64encode(encode_picture(picture)).decode()
    return (
        f'<figure><img alt="{_text(caption)}" src="data:image/png;base64,{data}"/>'
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )


def _plot(plot: LinePlot) -> str:
    values = {name: _shorten(series) for name, series in plot.series.items() if len(series)}
    lengths = [len(plot.series[name]) for name in values]
    if not values:
        return "<p>Nothing to plot.</p>"
    highest = max(float(np.max(series)) for series in values.values())
    lowest = min(0.0, *(float(np.min(series)) for series in values.values()))
    top = _round_up(highest - lowest) + lowest if highest > lowest else lowest + 1.0
    inner_width, inner_height = _WIDTH - _LEFT - 10, _HEIGHT - _TOP - _BOTTOM

    def y_of(value: float) -> float:
        return _TOP + inner_height * (1 - (value - lowest) / (top - lowest))

    parts = []
    for step in range(5):
        value = lowest + (top - lowest) * step / 4
        y = y_of(value)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>'
        )
    last = max(lengths) - 1
    for step in range(5):
        x = _LEFT + inner_width * step / 4
        parts.append(
            f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">'
            f"{round(last * step / 4)}</text>"
        )
    for number, (name, series) in enumerate(values.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        span = max(len(series) - 1, 1)
        reach = inner_width * (lengths[number] - 1) / max(last, 1)
        points = " ".join(
            f"{_LEFT + reach * i / span:.1f},{y_of(float(value)):.1f}"
            for i, value in enumerate(series)
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
            f'<text x="{_LEFT + 8 + 150 * number}" y="{_HEIGHT - 6}" fill="{colour}">'
            f"{_text(name)}</text>"
        )
    parts.append(
        f'<text x="{_WIDTH - 10}" y="{_HEIGHT - 6}" text-anchor="end">{_text(plot.x_label)}</text>'
        f'<text x="{_LEFT}" y="{_TOP - 3}">{_text(plot.y_label)}</text>'
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" font-size="11" role="img" '
        f'aria-label="{_text(plot.heading)}">{"".join(parts)}</svg>'
    )


def _shorten(series: Sequence[float]) -> np.ndarray:
    values = np.asarray(series, np.float64)
    if len(values) <= _MOST_POINTS:
        return values
    return np.array([part.mean() for part in np.array_split(values, _MOST_POINTS)])


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * (1 - 1e-9))
