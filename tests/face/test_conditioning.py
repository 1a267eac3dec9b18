"""The conditioning document and what it draws."""

import json

import numpy as np
import pytest

from facegan.errors import ConfigError, DataError
from facegan.face.conditioning import (
    ConditioningConfig,
    DomainConditioningConfig,
    LabelMapConditioner,
    LabelMapConditioningConfig,
    LandmarkConditioner,
    LatentConditioningConfig,
    MaskConditioner,
    MaskConditioningConfig,
    PictureConditioner,
    decode_conditioning,
    encode_conditioning,
    make_conditioner,
)
from facegan.face.identity import IdentityModel, identity_distance
from facegan.face.landmarks import MEAN_SHAPE, resize_landmarks
from facegan.face.mask_groups import show_groups
from facegan.face.parsing import ParserConfig
from facegan.face.raster import DrawingConfig, draw_landmarks
from facegan.image import resize


def test_document_round_trip():
    config = ConditioningConfig(size=128, drawing=DrawingConfig(line_width=3.0, colours="groups"))
    document = json.loads(json.dumps(encode_conditioning(config)))
    assert document["kind"] == "landmark_drawing" and document["version"] == 1
    assert decode_conditioning(document) == config


@pytest.mark.parametrize(
    "change", [{"kind": "iris_map"}, {"version": 2}, {"kind": None}, {"version": None}]
)
def test_unknown_kind_or_version_names_the_known_ones(change):
    document = {**encode_conditioning(ConditioningConfig()), **change}
    with pytest.raises(ConfigError, match=r"landmark_drawing \(version 1\)"):
        decode_conditioning(document)


def test_wrong_documents_are_refused():
    document = encode_conditioning(ConditioningConfig())
    with pytest.raises(ConfigError, match="line_width"):
        decode_conditioning({**document, "drawing": {"line_widht": 2.0}})
    with pytest.raises(ConfigError, match="power of two"):
        decode_conditioning({**document, "size": 200})
    with pytest.raises(ConfigError, match="object"):
        decode_conditioning([])


def test_conditioner_draws_at_its_size():
    config = ConditioningConfig(size=64, drawing=DrawingConfig(colours="groups"))
    conditioner = LandmarkConditioner(config)
    arrays = conditioner(MEAN_SHAPE * 40 + 12)
    assert tuple(arrays) == conditioner.inputs
    expected = draw_landmarks(MEAN_SHAPE * 40 + 12, 64, config.drawing)
    np.testing.assert_array_equal(arrays["condition"], expected)


def test_document_of_domains_round_trip():
    config = DomainConditioningConfig(
        size=128, domains=("female", "male"), align="none", landmarks=True
    )
    document = json.loads(json.dumps(encode_conditioning(config)))
    assert document == {
        "kind": "domain_picture",
        "version": 1,
        "size": 128,
        "domains": ["female", "male"],
        "align": "none",
        "landmarks": True,
    }
    assert decode_conditioning(document) == config
    config = DomainConditioningConfig()
    assert decode_conditioning(encode_conditioning(config)) == config


def test_document_of_noise_round_trip():
    config = LatentConditioningConfig(size=64, align="none")
    document = json.loads(json.dumps(encode_conditioning(config)))
    assert document == {"kind": "latent", "version": 1, "size": 64, "align": "none"}
    assert decode_conditioning(document) == config
    for change, message in (
        ({"size": 200}, "size must be a power of two"),
        ({"size": 4}, "size must be a power of two, one of 8,.*got 4"),
        ({"align": "ffhp"}, "align.*ffhq"),
        ({"landmarks": True}, "landmarks"),
    ):
        with pytest.raises(ConfigError, match=message):
            decode_conditioning({**document, **change})


def test_what_is_made_of_noise_is_no_video_of_a_face():
    with pytest.raises(ConfigError) as caught:
        make_conditioner(LatentConditioningConfig())
    # And no face parser either.
    assert "noise" in str(caught.value) and "parser" not in str(caught.value)
    assert "tools/generate.py" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 200}, "size must be a power of two"),
        ({"align": "ffhp"}, "align.*ffhq"),
        ({"domains": ["cat", "dog", "cat"]}, r"different names, got \['cat', 'dog', 'cat'\]"),
    ],
)
def test_wrong_documents_of_domains_are_refused(change, message):
    document = {**encode_conditioning(DomainConditioningConfig()), **change}
    with pytest.raises(ConfigError, match=message):
        decode_conditioning(document)


def test_a_domain_is_known_by_its_name():
    config = DomainConditioningConfig(domains=("cat", "dog", "wild"))
    assert [config.domain_index(name) for name in ("cat", "dog", "wild")] == [0, 1, 2]
    with pytest.raises(ConfigError) as caught:
        config.domain_index("wlid")
    expected = "domain must be one of cat, dog, wild; got 'wlid'. Did you mean 'wild'?"
    assert str(caught.value) == expected
    with pytest.raises(ConfigError, match="does not say what its domains are called"):
        DomainConditioningConfig().domain_index("cat")


@pytest.mark.parametrize("landmarks", [False, True])
def test_a_picture_is_passed_on_with_the_landmarks_that_are_wanted(landmarks):
    config = DomainConditioningConfig(size=64, landmarks=landmarks)
    conditioner = make_conditioner(config)
    assert isinstance(conditioner, PictureConditioner)
    assert conditioner.config == config and conditioner.crop_size == 64 and conditioner.needs_image
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    points = MEAN_SHAPE.astype(np.float64) * 40 + 12
    conditioner.fit([image], [points])
    arrays = conditioner(points, image)
    assert tuple(arrays) == conditioner.inputs
    np.testing.assert_array_equal(arrays["source"], image)
    assert arrays["source"].dtype == np.uint8
    if landmarks:
        assert conditioner.inputs == ("source", "landmarks_xy_px")
        assert arrays["landmarks_xy_px"].dtype == np.float32
        np.testing.assert_allclose(arrays["landmarks_xy_px"], points, atol=1e-5)
    else:
        assert conditioner.inputs == ("source",)


def test_a_picture_conditioner_needs_a_picture():
    with pytest.raises(DataError, match="pass the crop with the landmarks"):
        PictureConditioner(DomainConditioningConfig(size=64))(MEAN_SHAPE * 40)


def test_document_of_masks_round_trip():
    config = MaskConditioningConfig(
        size=128, parser=ParserConfig(size=128), identity=False, align="none"
    )
    document = json.loads(json.dumps(encode_conditioning(config)))
    assert document["kind"] == "mask_identity" and document["schema"] == "groups7"
    assert decode_conditioning(document) == config
    assert config.num_groups == 7
    assert MaskConditioningConfig(schema="celebamask19").num_groups == 18
    with pytest.raises(ConfigError, match="Did you mean 'groups7'"):
        MaskConditioningConfig(schema="groups8")


@pytest.fixture(scope="module")
def crop(portrait, portrait_face):
    """The portrait's middle at 128 px, and its landmarks."""
    image, landmarks = portrait[:400, 24:424], portrait_face.landmarks_xy_px - (24, 0)
    return resize(image, 128, 128), resize_landmarks(landmarks, (400, 400), (128, 128))


def test_groups_colours_and_identity_are_those_of_the_picture(crop):
    image, landmarks = crop
    config = MaskConditioningConfig(size=64, parser=ParserConfig(size=128))
    conditioner = make_conditioner(config)
    assert isinstance(conditioner, MaskConditioner)
    assert conditioner.needs_image and conditioner.crop_size == 128
    shown = conditioner(landmarks, image)
    assert tuple(shown) == conditioner.inputs == ("masks", "colours", "identity")
    regions = LabelMapConditioner(
        LabelMapConditioningConfig(size=64, schema="groups7", parser=config.parser)
    )
    expected = show_groups(resize(image, 64, 64), regions(landmarks, image)["label_map"], 7)
    for name, value in expected.items():
        np.testing.assert_array_equal(shown[name], value)
        assert shown[name].dtype == np.float32
    descriptor = IdentityModel().describe(image, landmarks)
    np.testing.assert_array_equal(shown["identity"], descriptor)
    with pytest.raises(DataError, match="pass the crop with the landmarks"):
        conditioner(landmarks)


def test_after_a_look_at_a_clip_everybody_in_it_is_the_same_person(crop):
    image, landmarks = crop
    dark = (image * 0.5).astype(np.uint8)
    conditioner = MaskConditioner(MaskConditioningConfig(size=64, parser=ParserConfig(size=128)))
    own = [conditioner(landmarks, picture)["identity"] for picture in (image, dark)]
    assert identity_distance(*own) > 0
    conditioner.fit([image, dark], [landmarks, landmarks])
    for picture in (image, dark):
        identity = conditioner(landmarks, picture)["identity"]
        np.testing.assert_allclose(identity, np.mean(own, axis=0), atol=1e-6)
        assert identity.dtype == np.float32


def test_a_model_that_is_not_told_who_it_is_needs_no_descriptor(crop):
    image, landmarks = crop
    config = MaskConditioningConfig(size=64, parser=ParserConfig(size=128), identity=False)
    conditioner = MaskConditioner(config)
    conditioner.fit([image], [landmarks])
    assert tuple(conditioner(landmarks, image)) == conditioner.inputs == ("masks", "colours")
