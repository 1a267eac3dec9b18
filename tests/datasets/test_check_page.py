import base64
import html.parser
import re

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from facegan.datasets import check_page, checking
from facegan.datasets.pipeline import read_records
from facegan.errors import DataError
from facegan.face.labels import CELEBAMASK19, PALETTES
from facegan.image import decode_picture, encode_labels, encode_picture
from tests.datasets.checked_dataset import SIZE, face, face_fields, labels, picture, store

NASTY = "<script>alert('x')</script>\"&"


class Tags(html.parser.HTMLParser):
    """Collects tags with their attributes, and checks that each is closed in its order."""

    VOID = ("meta", "img")

    def __init__(self, text):
        super().__init__()
        self.tags, self._open = [], []
        self.feed(text)
        assert not self._open, self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def _page(folder, fields, records, report=None, **kwargs):
    stored = store(folder, fields, records, report)
    result = checking.check_dataset(stored, **kwargs)
    samples = check_page.read_samples(stored, result)
    check_page.write_page(result, samples, folder / "page.html")
    return (folder / "page.html").read_text("utf-8"), samples


def _decode(attrs):
    return decode_picture(base64.b64decode(attrs["src"].partition(",")[2]))


def test_the_page_stands_alone_and_escapes_what_is_in_the_dataset(tmp_path):
    records = {
        "train": [face(i, identity=NASTY) for i in range(3)],
        "test": [face(5, identity=NASTY, label_map=encode_labels(labels(0, 99)))],
    }
    report = {"left_out": {NASTY: {"count": 1}}, "counts": {f"missing_part:{NASTY}": 2}}
    text, _ = _page(tmp_path, face_fields(), records, report)
    assert NASTY not in text and "<script" not in text
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&quot;&amp;" in text
    page = Tags(text)
    assert page.all("html") == [{"lang": "en"}] and len(page.all("title")) == 1
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object"}
    assert all(attrs["src"].startswith("data:image/") for attrs in page.all("img"))
    assert not re.search(r"https?:|url\(|@import", text)
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert all(attrs["alt"] for attrs in page.all("img"))
    assert "1 of 4 label maps have ids outside" in text
    assert "should not be trained on" in text


def test_pictures_are_small_and_beside_their_label_maps(tmp_path):
    large = np.zeros((300, 150, 3), np.uint8)
    large[:150] = 220
    record = face(
        0,
        image=encode_picture(large),
        label_map=encode_labels(np.repeat(labels(0, 13, size=300), 1, axis=1)[:, :150]),
        landmarks_xy_px=np.full((68, 2), (75, 240), np.float32),
    )
    text, samples = _page(tmp_path, face_fields(), {"train": [record]})
    image, label_map = (_decode(attrs) for attrs in Tags(text).all("img"))
    assert image.shape == label_map.shape == (128, 64, 3)
    assert np.abs(image[20, 20].astype(int) - 220).max() < 12
    # The landmarks are at 4/5 of the height; green on what is black.
    x, y = round(75 * 128 / 300), round(240 * 128 / 300)
    assert image[y, x, 1] > 150 and image[y, x, 0] < 110
    assert image[100, 10].max() < 20
    colours = PALETTES["celebamask19_dataset"].colours
    assert tuple(label_map[10, 10]) == colours[0]
    assert tuple(label_map[120, 10]) == colours[CELEBAMASK19.index("hair")]
    assert samples[0].thumbnails[0].alt == "train[0] (person 0): image, with landmarks"


def test_ids_outside_of_the_schema_are_white(tmp_path):
    record = face(0, label_map=encode_labels(labels(1, 200)))
    text, _ = _page(tmp_path, face_fields(), {"train": [record]})
    label_map = _decode(Tags(text).all("img")[1])
    assert tuple(label_map[0, 0]) == (204, 0, 0) and tuple(label_map[-1, 0]) == (255, 255, 255)


def test_samples_are_the_chosen_records_in_their_order(tmp_path):
    # TFDS' order on disk is that of its hashed keys, so the records say which they are.
    fields = {name: face_fields()[name] for name in ("image", "identity")}
    records = {
        split: [
            {"image": encode_picture(np.full((8, 8, 3), i, np.uint8)), "identity": f"{i}"}
            for i in range(start, start + 40)
        ]
        for split, start in (("train", 100), ("test", 150))
    }
    stored = store(tmp_path, fields, records)
    result = checking.check_dataset(stored, samples_per_split=5)
    samples = check_page.read_samples(stored, result)
    assert [sample.split for sample in samples] == ["train"] * 5 + ["test"] * 5
    for split in ("train", "test"):
        stored_names = [
            f"{split}[{number}] ({record['identity'].decode()})"
            for number, record in enumerate(read_records(stored, split).as_numpy_iterator())
        ]
        names = [sample.name for sample in samples if sample.split == split]
        assert names == [stored_names[number] for number in (4, 12, 20, 28, 36)]
    for sample in samples:
        number = int(sample.name.partition("(")[2].rstrip(")"))
        assert abs(int(decode_picture(sample.thumbnails[0].data)[0, 0, 0]) - number) < 3


def test_videos_show_a_strip_of_frames(tmp_path):
    fields = {
        "images": tfds.features.Sequence(tfds.features.Image(shape=(SIZE, SIZE, 3))),
        "landmarks_xy_px": tfds.features.Tensor(shape=(None, 68, 2), dtype=np.float32),
    }
    landmarks = np.full((12, 68, 2), 16, np.float32)
    landmarks[2] = np.nan
    record = {
        "images": [encode_picture(picture(i)) for i in range(12)],
        "landmarks_xy_px": landmarks,
    }
    short = {"images": [encode_picture(picture(99))], "landmarks_xy_px": landmarks[:1]}
    text, _ = _page(tmp_path, fields, {"test": [short], "train": [record]})
    alts = [attrs["alt"] for attrs in Tags(text).all("img")]
    assert alts == [
        "train[0]: images, frame 1 of 12, with landmarks",
        "train[0]: images, frame 3 of 12, no face found",
        *(f"train[0]: images, frame {n} of 12, with landmarks" for n in (5, 7, 9, 11)),
        "test[0]: images, frame 1 of 1, with landmarks",
    ]


def test_pictures_that_cannot_be_decoded_have_a_place(tmp_path):
    records = {"train": [face(0, image=b"broken", label_map=b"")]}
    text, _ = _page(tmp_path, face_fields(), records)
    page = Tags(text)
    assert page.all("img") == []
    told = [attrs["aria-label"] for attrs in page.all("span") if attrs["class"] == "broken"]
    assert len(told) == 2 and told[0].startswith("train[0] (person 0): image")


def test_a_schema_that_is_not_known_still_gets_a_page(tmp_path):
    text, _ = _page(tmp_path, face_fields(), {"train": [face(0)]}, {"schema": "celebmask"})
    label_map = _decode(Tags(text).all("img")[1])
    assert len(np.unique(label_map.reshape(-1, 3), axis=0)) == 3
    assert "Labels, schema unknown" in text


def test_without_samples_there_are_tables_only(tmp_path):
    text, samples = _page(tmp_path, face_fields(), {"train": [face(0)]}, samples_per_split=0)
    assert samples == [] and "Samples" not in text and "<table" in text


def test_a_page_that_cannot_be_written_is_told(tmp_path):
    stored = store(tmp_path, face_fields(), {"train": [face(0)]})
    result = checking.check_dataset(stored, limit=1)
    with pytest.raises(DataError, match="Cannot write"):
        check_page.write_page(result, [], tmp_path / "missing" / "page.html")


def test_real_label_maps_keep_their_colours(media_dir, tmp_path):
    sample = media_dir / "celebamask_hq_sample"
    if not sample.is_dir():
        pytest.skip(f"needs {sample}")
    fields = {**face_fields(), "image": tfds.features.Image(shape=(None, None, 3))}
    del fields["landmarks_xy_px"], fields["identity"]
    records = [
        {name: (sample / f"{i}{end}").read_bytes() for name, end in ends}
        for i in range(2)
        for ends in [(("image", ".jpg"), ("label_map", ".png"))]
    ]
    text, _ = _page(tmp_path, fields, {"train": records})
    pictures = [_decode(attrs) for attrs in Tags(text).all("img")]
    assert [p.shape for p in pictures] == [(128, 128, 3)] * 4
    allowed = set(PALETTES["celebamask19_dataset"].colours)
    for number in (1, 3):
        assert set(map(tuple, pictures[number].reshape(-1, 3).tolist())) <= allowed
    stored = cv2.imread(str(sample / "0.png"), cv2.IMREAD_UNCHANGED)
    assert stored.max() < CELEBAMASK19.num_labels
