import types

import numpy as np
import pytest
import skimage.data

from facegan.bundle import TensorSpec
from facegan.errors import ConfigError
from facegan.face.conditioning import LabelMapConditioner, LabelMapConditioningConfig
from facegan.face.identity import IdentityModel, identity_distance
from facegan.face.labels import BISENET19, CELEBAMASK19, encode_schema
from facegan.face.landmarks import DetectorConfig, resize_landmarks
from facegan.face.parsing import ParserConfig
from facegan.image import decode_picture
from facegan.preparation.image_folder import ImageFolderConfig, PictureWork, list_pictures
from facegan.preparation.items import Rejected
from facegan.preparation.sources import open_source
from facegan.preparation.squares import cut_square
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


@pytest.fixture
def astronaut(tmp_path):
    """A source of one portrait, [512, 512, 3]."""
    return _write(tmp_path, "x.png", skimage.data.astronaut())


@pytest.mark.parametrize("align", ["none", "ffhq"])
def test_regions_and_identity_are_those_of_the_face(astronaut, align):
    # The parser sees the face larger than it is stored.
    config = ImageFolderConfig(size=64, align=align, parser=ParserConfig(size=128), identity=True)
    ((_, record),) = PictureWork(astronaut, config)(_only_item(astronaut, config)).records
    image = skimage.data.astronaut()
    square = cut_square(image, "x.png", 128, align=align, detector=config.detector, landmarks=True)
    regions = LabelMapConditioner(LabelMapConditioningConfig(size=64, parser=config.parser))
    expected = regions(square.landmarks_xy_px, square.image)["label_map"]
    stored = decode_picture(record["label_map"])[..., 0]
    np.testing.assert_array_equal(stored, expected)
    assert {"skin", "nose", "u_lip"} <= {CELEBAMASK19.labels[i] for i in np.unique(stored)}
    assert decode_picture(record["image"]).shape == (64, 64, 3)
    smaller = resize_landmarks(square.landmarks_xy_px, (128, 128), (64, 64))
    np.testing.assert_array_equal(record["landmarks_xy_px"], smaller)
    # Of the picture as it is, not of 64 pixels.
    assert record["descriptor"].shape == (128,) and record["descriptor"].dtype == np.float32
    assert identity_distance(record["descriptor"], IdentityModel().describe(image)) < 0.1


def test_what_is_to_be_described_needs_a_face(tmp_path):
    source = _write(tmp_path, "wall.png", np.full((64, 64, 3), 90, np.uint8))
    for settings in ({"identity": True}, {"parser": ParserConfig(size=64)}):
        config = ImageFolderConfig(size=64, **settings)
        with pytest.raises(Rejected, match="No face is found in wall.png") as caught:
            PictureWork(source, config)(_only_item(source, config))
        assert caught.value.reason == "no_face"
    with pytest.raises(ConfigError, match="use the detector dlib"):
        detector = DetectorConfig(name="mediapipe", model_path="x.task")
        ImageFolderConfig(identity=True, detector=detector)


def _load_engine(folder):
    """An engine whose parser takes everything for hair."""
    spec = TensorSpec(name="label_map", shape=(None, 64, 64), dtype="uint8", value_range=None)
    manifest = types.SimpleNamespace(
        labels=encode_schema(BISENET19),
        inputs=(TensorSpec(name="image", shape=(None, 64, 64, 3)),),
        outputs=(spec,),
        image_size=64,
    )
    hair = np.full((1, 64, 64), BISENET19.index("hair"), np.uint8)
    assert folder == "some/parser"
    return types.SimpleNamespace(manifest=manifest, generate=lambda inputs: hair)


def test_regions_by_an_exported_parser_are_stored_in_celebamask_hqs_labels(astronaut):
    config = ImageFolderConfig(size=32, parser=ParserConfig(bundle="some/parser"))
    work = PictureWork(astronaut, config, _load_engine)
    ((_, record),) = work(_only_item(astronaut, config)).records
    stored = decode_picture(record["label_map"])[..., 0]
    assert stored.shape == (32, 32) and (stored == CELEBAMASK19.index("hair")).all()


def test_what_older_versions_made_is_known_again(astronaut):
    new = {"parser", "identity"}
    assert not new & set(PictureWork(astronaut, ImageFolderConfig()).fingerprint())
    config = ImageFolderConfig(parser=ParserConfig(), identity=True)
    assert new <= set(PictureWork(astronaut, config).fingerprint())
