"""A page that shows what a check of a dataset found, with pictures from it.

One HTML file that needs nothing else: styles and pictures are in it, there is no script, and no
other host is asked for anything. Whatever comes from the dataset is escaped.
"""

import base64
import dataclasses
import html
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from facegan.datasets.checking import (
    colour_table,
    find_report_schema,
    list_tables,
    open_report,
    summarize,
)
from facegan.datasets.pipeline import read_records
from facegan.datasets.record_facts import LABEL_MAP, LANDMARKS, Fields, find_fields
from facegan.datasets.storage import open_dataset
from facegan.errors import ConfigError, DataError
from facegan.face.label_maps import resize_labels
from facegan.face.labels import LabelSchema
from facegan.image import encode_jpeg, encode_picture, resize
from facegan.preparation.pictures import read_label_ids, read_photo

_THUMBNAIL_PX = 128
_MAX_FRAMES = 6
_MARK_COLOUR = (0, 255, 120)

_STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1b1f24; --soft: #59636e; --line: #d1d9e0;
  --panel: #f6f8fa; --bar: #2f6fdb; --error: #b3261e; --warning: #8a5a00; --good: #1a7f37; }
@media (prefers-color-scheme: dark) { :root { --back: #0f1318; --text: #e6eaee; --soft: #9aa5b1;
  --line: #343b44; --panel: #181d24; --bar: #6ea2f5; --error: #ff8a80; --warning: #f0b849;
  --good: #56d364; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--back); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.25rem 0 .5rem; }
p { margin: .25rem 0; }
.soft { color: var(--soft); }
.verdict { font-weight: 600; border-left: .3rem solid; padding-left: .6rem; margin: .75rem 0; }
.good { color: var(--good); } .error { color: var(--error); } .warning { color: var(--warning); }
.problems { list-style: none; padding: 0; margin: 0; }
.problems > li { background: var(--panel); border-left: .3rem solid; padding: .5rem .75rem;
  margin: .5rem 0; border-radius: 0 .3rem .3rem 0; }
.problems p, .problems ul { color: var(--text); }
.problems ul { margin: .25rem 0 0; padding-left: 1.25rem; font-size: .875rem; }
.tables { display: flex; flex-wrap: wrap; gap: 0 2rem; align-items: start; }
.tables section { max-width: 100%; overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .2rem .75rem .2rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; overflow-wrap: normal; }
th { color: var(--soft); font-weight: 600; }
.number { text-align: right; }
.labels { width: 100%; }
.labels td:last-child { width: 45%; padding-right: 0; }
.swatch { display: inline-block; width: .9em; height: .9em; border: 1px solid var(--line);
  border-radius: .15em; margin-right: .4em; vertical-align: -.1em; }
.bar { display: block; height: .5rem; background: var(--bar); margin: .3rem 0 .15rem; }
.maps { background: var(--soft); height: .2rem; margin: 0; }
.samples { display: grid; gap: .75rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); }
figure { margin: 0; padding: .5rem; background: var(--panel); border-radius: .3rem; }
figure div { display: flex; flex-wrap: wrap; gap: .25rem; }
figcaption { font-size: .8rem; color: var(--soft); margin-top: .25rem; }
img { display: block; max-width: 100%; height: auto; }
.broken { width: 128px; height: 128px; display: grid; place-items: center; text-align: center;
  border: 2px dashed var(--error); color: var(--error); font-size: .8rem; }
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small picture, or what stands in its place.

    Attributes:
        alt: What it shows.
        media_type: Of ``data``.
        data: Encoded bytes, empty for a picture that cannot be decoded.
        width: In pixels.
        height: In pixels.
    """

    alt: str
    media_type: str = ""
    data: bytes = b""
    width: int = 0
    height: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """A record to be shown: its split, its name and its pictures."""

    split: str
    name: str
    thumbnails: tuple[Thumbnail, ...]


def read_samples(dataset_dir: str | os.PathLike[str], result: Mapping[str, Any]) -> list[Sample]:
    """Reads the records that ``check_dataset`` chose to be shown, as small pictures.

    Args:
        dataset_dir: The dataset's folder.
        result: What ``check_dataset`` found in it.
    """
    fields = find_fields(open_dataset(dataset_dir).info.features)
    colours = colour_table(_find_schema(dataset_dir))
    samples = []
    for split, numbers in result["samples"].items():
        if not numbers:
            continue
        # Read together: each call opens the dataset anew.
        chosen = "+".join(f"{split}[{number}:{number + 1}]" for number in numbers)
        records = read_records(dataset_dir, chosen).as_numpy_iterator()
        for number, record in zip(numbers, records, strict=True):
            name = fields.name_record(split, number, record)
            thumbnails = tuple(_draw_record(fields, record, name, colours))
            samples.append(Sample(split, name, thumbnails))
    return samples


def write_page(
    result: Mapping[str, Any], samples: Iterable[Sample], path: str | os.PathLike[str]
) -> None:
    """Writes what ``check_dataset`` found, and samples of the dataset, as one HTML file.

    Raises:
        DataError: The file cannot be written.
    """
    path = pathlib.Path(path)
    try:
        path.write_text(_render(result, list(samples)), encoding="utf-8")
    except OSError as error:
        raise DataError(f"Cannot write {path}: {error.strerror or error}.") from error


def _find_schema(dataset_dir: str | os.PathLike[str]) -> LabelSchema | None:
    try:
        return find_report_schema(open_report(dataset_dir))
    except ConfigError:
        return None  # the check tells


def _draw_record(
    fields: Fields, record: Mapping[str, Any], name: str, colours: np.ndarray
) -> Iterator[Thumbnail]:
    landmarks = None
    if fields.has_landmarks:
        marks = record[LANDMARKS]
        landmarks = marks.reshape(-1, *marks.shape[-2:])  # [sets, 68, 2]
    position = 0
    for field in fields.pictures:
        yield _draw_picture(record[field], f"{name}: {field}", landmarks, position)
        position += 1
    for field in fields.strips:
        frames = record[field]
        shown = sorted({i * len(frames) // _MAX_FRAMES for i in range(_MAX_FRAMES)})
        for frame in shown if len(frames) else ():
            what = f"{name}: {field}, frame {frame + 1} of {len(frames)}"
            yield _draw_picture(frames[frame], what, landmarks, position + frame)
        position += len(frames)
    if fields.has_labels:
        yield _draw_labels(record[LABEL_MAP], f"{name}: {LABEL_MAP}", colours)


def _draw_picture(data: bytes, what: str, landmarks: np.ndarray | None, position: int) -> Thumbnail:
    try:
        picture = read_photo(data, what, turn_upright=False)
    except DataError as error:
        return Thumbnail(str(error))
    height, width = picture.shape[:2]
    small = resize(picture, *_thumbnail_hw(height, width))
    if landmarks is not None and position < len(landmarks):
        small, what = _draw_landmarks(small, landmarks[position] / (width, height), what)
    return Thumbnail(what, "image/jpeg", encode_jpeg(small, 85), small.shape[1], small.shape[0])


def _draw_landmarks(
    picture: np.ndarray, landmarks: np.ndarray, what: str
) -> tuple[np.ndarray, str]:
    """Draws landmarks [68, 2], in parts of the picture's sides."""
    if np.isnan(landmarks).any():
        return picture, f"{what}, no face found"
    height, width = picture.shape[:2]
    drawn = picture.copy()  # decoded pictures may be read-only
    # Far outside is outside; OpenCV wants small whole numbers.
    for x, y in np.clip(landmarks, -1, 2) * (width, height) - 0.5:
        cv2.circle(drawn, (round(x), round(y)), 1, _MARK_COLOUR, -1)
    return drawn, f"{what}, with landmarks"


def _draw_labels(data: bytes, what: str, colours: np.ndarray) -> Thumbnail:
    try:
        label_map = read_label_ids(data, what)
    except DataError as error:
        return Thumbnail(str(error))
    small = colours[resize_labels(label_map, *_thumbnail_hw(*label_map.shape))]
    return Thumbnail(what, "image/png", encode_picture(small), small.shape[1], small.shape[0])


def _thumbnail_hw(height: int, width: int) -> tuple[int, int]:
    scale = min(1.0, _THUMBNAIL_PX / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _render(result: Mapping[str, Any], samples: Sequence[Sample]) -> str:
    title = f"Check of {result['dataset']}"
    kind = "good" if result["ok"] else "error"
    limit = result["limit"]
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body><main>",
        f"<h1>{_text(title)}</h1>",
        f'<p class="soft">{_text(result["dataset_dir"])}</p>',
        f'<p class="verdict {kind}">{_text(summarize(result))}</p>',
    ]
    if limit is not None:
        parts.append(f"<p>Only the first {limit} records of each split were looked at.</p>")
    if result["problems"]:
        parts.append("<h2>Problems</h2>")
        parts.append('<ul class="problems">')
        parts += [_render_problem(problem) for problem in result["problems"]]
        parts.append("</ul>")
    parts.append('<div class="tables">')
    for name, header, rows in list_tables(result):
        if not name.startswith("Labels"):
            parts.append(_render_table(name, header, rows))
    parts.append("</div>")
    if result["labels"]:
        parts += _render_labels(result)
    parts += _render_samples(samples)
    parts.append("</main></body></html>\n")
    return "\n".join(parts)


def _render_problem(problem: Mapping[str, Any]) -> str:
    level = problem["level"]
    examples = "".join(f"<li>{_text(example)}</li>" for example in problem["examples"])
    return (
        f'<li class="{_text(level)}"><strong>{_text(level.capitalize())}</strong>'
        f"<p>{_text(problem['what'])}</p>" + (f"<ul>{examples}</ul>" if examples else "") + "</li>"
    )


def _render_table(name: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    heads = "".join(
        f'<th scope="col"{_number(rows[0][i])}>{_text(text)}</th>' for i, text in enumerate(header)
    )
    body = "".join(
        "<tr>" + "".join(f"<td{_number(text)}>{_text(text)}</td>" for text in row) + "</tr>"
        for row in rows
    )
    return (
        f"<section><h2>{_text(name)}</h2><table><thead><tr>{heads}</tr></thead>"
        f"<tbody>{body}</tbody></table></section>"
    )


def _render_labels(result: Mapping[str, Any]) -> list[str]:
    """The histogram of labels: a thick bar for pixels, a thin one for label maps."""
    most = max(entry["pixel_share"] for entry in result["labels"]) or 1.0
    lines = [
        f"<h2>Labels, schema {_text(result['schema'] or 'unknown')}</h2>",
        '<p class="soft">Thick bars: part of all pixels. Thin bars: part of the label maps that '
        "have the label.</p>",
        '<table class="labels"><thead><tr><th scope="col" class="number">id</th>'
        '<th scope="col">label</th><th scope="col" class="number">of pixels</th>'
        '<th scope="col" class="number">in label maps</th><th scope="col">histogram</th></tr>'
        "</thead><tbody>",
    ]
    for entry in result["labels"]:
        pixels, maps = entry["pixel_share"], entry["picture_share"]
        colour = _text(entry["colour"])
        lines.append(
            f'<tr><td class="number">{entry["id"]}</td>'
            f'<td><span class="swatch" style="background:{colour}"></span>'
            f"{_text(entry['name'])}</td>"
            f'<td class="number">{pixels:.2%}</td><td class="number">{maps:.1%}</td>'
            f'<td><span class="bar" style="width:{100 * pixels / most:.2f}%"></span>'
            f'<span class="bar maps" style="width:{100 * maps:.2f}%"></span></td></tr>'
        )
    return [*lines, "</tbody></table>"]


def _render_samples(samples: Sequence[Sample]) -> Iterator[str]:
    if not samples:
        return
    yield "<h2>Samples</h2>"
    for split in dict.fromkeys(sample.split for sample in samples):
        yield f'<h3>{_text(split)}</h3><div class="samples">'
        for sample in samples:
            if sample.split == split:
                pictures = "".join(map(_render_thumbnail, sample.thumbnails))
                yield (
                    f"<figure><div>{pictures}</div>"
                    f"<figcaption>{_text(sample.name)}</figcaption></figure>"
                )
        yield "</div>"


def _render_thumbnail(thumbnail: Thumbnail) -> str:
    if not thumbnail.data:
        return (
            f'<span class="broken" role="img" aria-label="{_text(thumbnail.alt)}">'
            "cannot be decoded</span>"
        )
    data = base64.b64encode(thumbnail.data).decode("ascii")
    return (
        f'<img src="data:{thumbnail.media_type};base64,{data}" alt="{_text(thumbnail.alt)}" '
        f'width="{thumbnail.width}" height="{thumbnail.height}">'
    )


def _number(text: str) -> str:
    return ' class="number"' if text[:1].isdigit() else ""


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)
