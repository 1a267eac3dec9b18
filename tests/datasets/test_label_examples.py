import cv2
import numpy as np
import pytest
import tensorflow as tf

from facegan.datasets import pipeline
from facegan.datasets.label_examples import LabelMapExample
from facegan.datasets.transforms import Augmentation, AugmentConfig
from facegan.errors import ConfigError, DataError
from facegan.face import label_maps
from facegan.face.labels import BISENET19, CELEBAMASK19, GROUPS7, PALETTES
from facegan.image import encode_picture

SIZE = 128
PALETTE = PALETTES["celebamask19_dataset"]
FLIP = Augmentation(flip=True)


def _face(size=SIZE):
    """A face made of ellipses, no two sides alike: [size, size] uint8 ids of CelebAMask-HQ."""
    labels = np.zeros((size, size), np.uint8)
    for name, x, y, width, height in (
        ("hair", 0.5, 0.4, 0.4, 0.35),
        ("neck", 0.45, 0.9, 0.15, 0.2),
        ("skin", 0.5, 0.5, 0.28, 0.35),
        ("l_ear", 0.8, 0.5, 0.06, 0.1),
        ("r_ear", 0.2, 0.5, 0.03, 0.06),
        ("l_brow", 0.64, 0.36, 0.09, 0.03),
        ("r_brow", 0.36, 0.34, 0.08, 0.02),
        ("l_eye", 0.63, 0.44, 0.06, 0.03),
        ("r_eye", 0.37, 0.44, 0.06, 0.04),
        ("nose", 0.5, 0.55, 0.05, 0.1),
        ("u_lip", 0.5, 0.7, 0.1, 0.03),
        ("l_lip", 0.52, 0.74, 0.1, 0.04),
    ):
        centre = (round(x * size), round(y * size))
        axes = (round(width * size), round(height * size))
        cv2.ellipse(labels, centre, axes, 0, 0, 360, CELEBAMASK19.index(name), cv2.FILLED)
    return labels


def _encode_ids(labels):
    return cv2.imencode(".png", labels)[1].tobytes()


def _record(labels, image=None):
    """A record whose picture shows each pixel's label by its colour."""
    picture = label_maps.colour_labels(labels, PALETTE) if image is None else image
    return {"image": encode_picture(picture), "label_map": _encode_ids(labels)}


def _nearest(picture):
    """The id whose colour is nearest to each pixel's."""
    colours = np.array(PALETTE.colours, np.float32)
    away = picture.astype(np.float32)[..., None, :] - colours
    return np.square(away).sum(axis=-1).argmin(axis=-1).astype(np.uint8)


def _inside(labels, margin):
    """Where all pixels within ``margin`` have the same label."""
    around = np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)
    return cv2.dilate(labels, around) == cv2.erode(labels, around)


def test_a_record_of_the_models_own_size_and_schema_passes_through():
    labels = _face()
    maker = LabelMapExample(SIZE)
    made = maker(_record(labels), Augmentation())
    np.testing.assert_array_equal(made["label_map"], labels)
    np.testing.assert_array_equal(made["image"], label_maps.colour_labels(labels, PALETTE))
    assert {k: (v.shape, v.dtype.type) for k, v in made.items()} == maker.outputs


def test_a_flip_mirrors_both_pixel_by_pixel_and_swaps_the_sides():
    labels = _face()
    made = LabelMapExample(SIZE)(_record(labels), FLIP)
    # The picture keeps the colours it had; its label map tells the other side.
    shown = label_maps.labels_from_colours(made["image"], PALETTE)
    np.testing.assert_array_equal(shown, labels[:, ::-1])
    np.testing.assert_array_equal(made["label_map"], label_maps.swap_sides(shown, CELEBAMASK19))
    for name in ("l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear"):
        index = CELEBAMASK19.index(name)
        columns = np.nonzero(made["label_map"] == index)[1]
        assert columns.size and (columns.mean() > SIZE / 2) == name.startswith("l_")


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("size", [64, 128, 256])
def test_picture_and_labels_stay_paired_when_they_move(flip, size):
    move = Augmentation(
        shift_xy=(0.06, -0.04), scale=1.1, rotation_deg=12, flip=flip, warp=0.01, warp_key=(1, 2)
    )
    maker = LabelMapExample(size)
    made = maker(_record(_face(2 * SIZE)), move)
    shown = _nearest(made["image"])
    expected = label_maps.swap_sides(shown, CELEBAMASK19) if flip else shown
    # What comes in from outside is a mirrored picture, but background as labels.
    covered = maker(_record(np.full((2 * SIZE, 2 * SIZE), 13, np.uint8)), move)["label_map"]
    # Where two labels meet, the picture's colours are mixed.
    clear = _inside(made["label_map"], size // SIZE + 1) & _inside(covered, 1) & (covered == 13)
    assert clear.mean() > 0.5
    assert len(np.unique(made["label_map"][clear])) >= 11
    np.testing.assert_array_equal(made["label_map"][clear], expected[clear])
    still = maker(_record(_face(2 * SIZE)), Augmentation(flip=flip))["label_map"]
    assert np.mean(made["label_map"] != still) > 0.1


def test_what_comes_in_from_outside_is_background():
    labels = np.full((SIZE, SIZE), CELEBAMASK19.index("hair"), np.uint8)
    move = Augmentation(shift_xy=(0.25, 0.0))
    made = LabelMapExample(SIZE)(_record(labels), move)
    assert (made["label_map"][:, : SIZE // 4] == 0).all()
    assert (made["label_map"][:, SIZE // 4 :] == labels[0, 0]).all()


def test_larger_records_are_reduced_after_the_move():
    labels = _face(2 * SIZE)
    made = LabelMapExample(SIZE)(_record(labels), FLIP)
    expected = label_maps.resize_labels(label_maps.flip_labels(labels, CELEBAMASK19), SIZE, SIZE)
    np.testing.assert_array_equal(made["label_map"], expected)
    assert made["image"].shape == (SIZE, SIZE, 3)


@pytest.mark.parametrize("move", [Augmentation(), FLIP], ids=["still", "flip"])
@pytest.mark.parametrize("schema", [BISENET19, GROUPS7], ids=lambda schema: schema.name)
def test_labels_become_the_models(schema, move):
    made = LabelMapExample(SIZE, schema, CELEBAMASK19)(_record(_face()), move)
    plain = LabelMapExample(SIZE)(_record(_face()), move)
    expected = label_maps.convert_labels(plain["label_map"], CELEBAMASK19, schema)
    np.testing.assert_array_equal(made["label_map"], expected)
    assert made["label_map"].max() < schema.num_labels


def test_groups_cannot_serve_a_model_of_parts():
    with pytest.raises(DataError, match="'groups7' cannot be turned into those of 'celebamask19'"):
        LabelMapExample(SIZE, source_schema=GROUPS7)


def test_the_size_is_a_power_of_two():
    with pytest.raises(ConfigError, match="size must be a power of two.* got 96"):
        LabelMapExample(96)


def test_ids_outside_of_the_records_schema_are_named():
    labels = _face()
    image = label_maps.colour_labels(labels, PALETTE)
    labels[3, 4:6] = 250
    with pytest.raises(DataError, match=r"'celebamask19' .*have: 250, on 2 of 16384 pixels"):
        LabelMapExample(SIZE)(_record(labels, image), Augmentation())
    # Read as groups, most of a map of parts is out of range.
    with pytest.raises(DataError, match=r"'groups7' \(0 to 7\) does not have: 8, 9, 11"):
        LabelMapExample(SIZE, GROUPS7)(_record(_face()), Augmentation())


def test_picture_and_labels_must_have_one_size():
    record = {**_record(_face()), "label_map": _encode_ids(_face(64))}
    with pytest.raises(DataError, match="label map is 64x64 and its image 128x128"):
        LabelMapExample(SIZE)(record, Augmentation())


@pytest.mark.parametrize("form", ["colours", "16 bit", "jpeg", "cut off", "empty"])
def test_label_maps_in_another_form_are_refused(form):
    labels = _face()
    data = {
        "colours": encode_picture(label_maps.colour_labels(labels, PALETTE)),
        "16 bit": _encode_ids(labels.astype(np.uint16)),
        "jpeg": cv2.imencode(".jpg", labels)[1].tobytes(),
        "cut off": _encode_ids(labels)[:28],
        "empty": b"",
    }[form]
    with pytest.raises(DataError, match="is no 8-bit grey PNG of label ids"):
        LabelMapExample(SIZE)({**_record(labels), "label_map": data}, Augmentation())


def test_the_pipeline_batches_ids_and_pictures():
    rows = [_record(_face()), _record(np.full((SIZE, SIZE), 13, np.uint8))]
    records = tf.data.Dataset.from_tensor_slices(
        {name: [row[name] for row in rows] for name in ("image", "label_map")}
    )
    config = pipeline.PipelineConfig(
        batch_size=8, augment=AugmentConfig(probability=1.0, flip=True, shift=0.0)
    )
    dataset = pipeline.make_pipeline(records, LabelMapExample(64), config)
    batch = next(iter(dataset.as_numpy_iterator()))
    assert batch["image"].shape == (8, 64, 64, 3) and batch["image"].dtype == np.float32
    assert batch["label_map"].shape == (8, 64, 64) and batch["label_map"].dtype == np.uint8
    assert len({labels.tobytes() for labels in batch["label_map"]}) == 8
    assert batch["label_map"].max() < CELEBAMASK19.num_labels
