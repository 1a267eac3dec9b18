import numpy as np
import pytest

from facegan.errors import ConfigError, DataError
from facegan.face.landmarks import DetectorConfig
from facegan.image import decode_picture
from facegan.preparation.celebamask_hq import (
    CelebAMaskHQConfig,
    MaskedPictureWork,
    list_pictures,
)
from facegan.preparation.items import Rejected
from facegan.preparation.sources import open_source
from tests.celebamask_layout import draw_faces, write_layout


@pytest.fixture
def source(tmp_path):
    faces = {index: draw_faces(64, index) for index in (3, 4000)}
    splits = {3: "train", 4000: "test"}
    return open_source(write_layout(tmp_path / "a" / "hq", faces, splits).parent)


def test_the_listing_joins_what_belongs_together(source):
    listing = list_pictures(source)
    (item,) = listing.splits["train"]
    assert item.key == "00003" and item.files[0] == "hq/CelebA-HQ-img/3.jpg"
    assert item.data["masks"]["hair"] == "hq/CelebAMask-HQ-mask-anno/0/00003_hair.png"
    assert len(item.files) == len(item.sizes) == 19 and min(item.sizes) > 0
    (other,) = listing.splits["test"]
    assert other.data["masks"]["skin"].endswith("mask-anno/2/04000_skin.png")
    assert other.data["pose"] == [4000.5, -1.25, 3.0] and len(other.data["attributes"]) == 40
    assert (
        listing.facts["schema"] == "celebamask19"
        and listing.facts["attributes"][1] == "Attribute_1"
    )


def test_work_gives_one_record(source):
    (item,) = list_pictures(source).splits["train"]
    work = MaskedPictureWork(source, CelebAMaskHQConfig(size=32, faces=True))
    ((key, record),) = work(item).records
    assert key == "00003" and decode_picture(record["image"]).shape == (32, 32, 3)
    assert not record["has_face"] and np.isnan(record["landmarks_xy_px"]).all()
    assert work(item).counts == {"no_face": 1}
    plain = MaskedPictureWork(source, CelebAMaskHQConfig(size=32))
    assert plain.fingerprint() != work.fingerprint()


def test_pictures_without_one_face_are_left_out_where_it_is_asked_for(source):
    (item,) = list_pictures(source).splits["train"]
    work = MaskedPictureWork(source, CelebAMaskHQConfig(size=32, faces=True, one_face=True))
    with pytest.raises(Rejected, match="No face is found in hq/CelebA-HQ-img/3.jpg") as caught:
        work(item)
    assert caught.value.reason == "no_face"


def test_what_older_versions_made_is_known_again(source):
    old = {"size", "faces", "detector", "dataset", "kind"}
    work = MaskedPictureWork(source, CelebAMaskHQConfig(faces=True))
    assert set(work.fingerprint()) == old
    work = MaskedPictureWork(source, CelebAMaskHQConfig(faces=True, one_face=True))
    assert set(work.fingerprint()) == {*old, "one_face"}


def test_lines_of_windows_are_understood(source, tmp_path):
    path = tmp_path / "a" / "hq" / "CelebA-HQ-to-CelebA-mapping.txt"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert len(list_pictures(source).splits["train"]) == 1


def test_text_that_is_none_is_refused(source, tmp_path):
    (tmp_path / "a" / "hq" / "CelebAMask-HQ-pose-anno.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="is not a text file"):
        list_pictures(source)


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="power of two"):
        CelebAMaskHQConfig(size=300)
    with pytest.raises(ConfigError, match="dlib"):
        detector = DetectorConfig(name="mediapipe", model_path="x.task")
        CelebAMaskHQConfig(faces=True, detector=detector)
    with pytest.raises(ConfigError, match="one_face needs faces, .*set faces=true"):
        CelebAMaskHQConfig(one_face=True)
