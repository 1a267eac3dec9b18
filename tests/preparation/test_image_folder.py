import numpy as np
import pytest

from facegan.image import decode_picture
from facegan.preparation.image_folder import ImageFolderConfig, PictureWork, list_pictures
from facegan.preparation.items import Rejected
from facegan.preparation.sources import open_source
from tests.celebamask_layout import write_picture


def _write(tmp_path, name, image):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(path, image)
    return open_source(tmp_path)


def _only_item(source, config):
    listing = list_pictures(source, config)
    (item,) = [item for items in listing.splits.values() for item in items]
    return item


def test_the_centred_square_is_taken(tmp_path):
    image = np.zeros((32, 64, 3), np.uint8)
    image[:, 16:48] = (10, 200, 30)
    source = _write(tmp_path, "a/x.png", image)
    config = ImageFolderConfig(size=32)
    ((key, record),) = PictureWork(source, config)(_only_item(source, config)).records
    assert key == "a/x.png" and record["domain"] == "a"
    np.testing.assert_array_equal(decode_picture(record["image"]), image[:, 16:48])


def test_pictures_without_a_face_are_kept_or_left_out_as_asked(tmp_path):
    source = _write(tmp_path, "x.png", np.full((64, 64, 3), 90, np.uint8))
    config = ImageFolderConfig(size=64, landmarks=True)
    outcome = PictureWork(source, config)(_only_item(source, config))
    assert outcome.counts == {"train/all": 1, "no_face": 1}
    assert np.isnan(outcome.records[0][1]["landmarks_xy_px"]).all()
    config = ImageFolderConfig(size=64, align="ffhq")
    with pytest.raises(Rejected, match="cannot be aligned") as caught:
        PictureWork(source, config)(_only_item(source, config))
    assert caught.value.reason == "no_face"


def test_a_folder_called_train_may_be_a_domain_among_others(tmp_path):
    image = np.zeros((16, 16, 3), np.uint8)
    _write(tmp_path, "trains/x.png", image)
    listing = list_pictures(_write(tmp_path, "ships/y.png", image), ImageFolderConfig())
    assert listing.labels == {"domain": ["ships", "trains"]} and len(listing.splits["train"]) == 2
