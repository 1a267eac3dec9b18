import numpy as np
import pytest

from facegan.face.landmarks import MEAN_SHAPE
from facegan.models.fan import FAN, FanConfig, detail_masks, landmark_heatmaps
from facegan.models.stargan_translator import StarTranslator, find_details
from facegan.models.stargan_v2 import (
    MappingConfig,
    MappingNetwork,
    StarGenerator,
    StarGeneratorConfig,
    StarStyleEncoder,
    StarStyleEncoderConfig,
)

SIZE, STYLE = 64, 5
TINY = {"image_size": SIZE, "base_width": 4, "max_width": 8, "style_size": STYLE}
LANDMARKS = np.stack([MEAN_SHAPE * 40 + (12, 10), MEAN_SHAPE * 30 + (20, 25)])


def built(net):
    net.build({name: (None, *shape) for name, shape in net.input_shapes().items()})
    return net


def make_translator(high_pass=0.0, fan=None, **kwargs):
    return StarTranslator(
        built(StarGenerator(StarGeneratorConfig(**TINY, high_pass=high_pass))),
        built(MappingNetwork(MappingConfig(latent_size=6, width=8, style_size=STYLE))),
        built(StarStyleEncoder(StarStyleEncoderConfig(**TINY))),
        fan,
        **kwargs,
    )


def make_fan(num_landmarks=98):
    """One whose maps are from 0 to 1 and differ from one place to the next."""
    fan = built(FAN(FanConfig(num_landmarks=num_landmarks, width=8)))
    rng = np.random.default_rng(4)
    for variable in fan.variables:
        if variable.path.endswith("kernel"):
            variable.assign(rng.normal(0, np.prod(variable.shape[:-1]) ** -0.5, variable.shape))
    highest = np.max(fan({"image": make_inputs(256)["image"]})["heatmaps"], axis=-1)
    fan.to_maps.kernel.assign(fan.to_maps.kernel / np.ptp(highest))
    fan.to_maps.bias.assign(fan.to_maps.bias - highest.min() / np.ptp(highest))
    return fan


def make_inputs(size=SIZE):
    rng = np.random.default_rng(0)
    return {
        "image": rng.uniform(-1, 1, (2, size, size, 3)).astype(np.float32),
        "style": rng.normal(size=(2, STYLE)).astype(np.float32),
    }


def translate(translator, inputs):
    """What is served, of inputs as the generator has them."""
    inputs = dict(inputs)
    return translator({"source": inputs.pop("image"), **inputs})


def test_without_the_skip_it_is_the_generator():
    translator, inputs = make_translator(), make_inputs()
    assert find_details(translator.generator, inputs["image"]) == {}
    expected = translator.generator(inputs)
    np.testing.assert_array_equal(translate(translator, inputs), expected)
    given = {**inputs, "landmarks_xy_px": LANDMARKS.astype(np.float32)}
    np.testing.assert_array_equal(translate(translator, given), expected)


def test_landmarks_keep_details_of_the_face():
    translator, inputs = make_translator(high_pass=1.0), make_inputs()
    found = translate(translator, {**inputs, "landmarks_xy_px": LANDMARKS.astype(np.float32)})
    assert found.shape == (2, SIZE, SIZE, 3)
    masks = detail_masks(landmark_heatmaps(LANDMARKS, SIZE), SIZE)
    np.testing.assert_allclose(found, translator.generator({**inputs, **masks}), atol=1e-5)
    assert np.abs(found - np.asarray(translator.generator(inputs))).max() > 0.01


def test_absent_landmarks_keep_none():
    translator, inputs = make_translator(high_pass=1.0), make_inputs()
    absent = np.full((2, 68, 2), np.nan, np.float32)
    found = translate(translator, {**inputs, "landmarks_xy_px": absent})
    np.testing.assert_allclose(found, translator.generator(inputs), atol=1e-5)


@pytest.mark.parametrize("num_landmarks", [68, 98])
def test_a_network_finds_the_details_instead(num_landmarks):
    fan = make_fan(num_landmarks)
    translator, inputs = make_translator(high_pass=1.0, fan=fan), make_inputs()
    details = find_details(translator.generator, inputs["image"], fan=fan)
    # At four times the size: each pixel four times, and between centres on a straight line.
    places = np.clip((np.arange(256) + 0.5) / 4 - 0.5, 0, SIZE - 1)
    low = np.minimum(places.astype(int), SIZE - 2)
    weights = np.zeros((256, SIZE))
    weights[np.arange(256), low], weights[np.arange(256), low + 1] = 1 - places + low, places - low
    image = np.einsum("yh,xw,bhwc->byxc", weights, weights, inputs["image"])
    maps = fan({"image": image.astype(np.float32)})["heatmaps"]
    for name, mask in detail_masks(maps, SIZE).items():
        np.testing.assert_allclose(details[name], mask, atol=1e-3)
        assert np.ptp(mask) > 0.1
    found = translate(translator, inputs)
    np.testing.assert_allclose(found, translator.generator({**inputs, **details}), atol=1e-5)
    assert np.abs(found - np.asarray(translator.generator(inputs))).max() > 0.01
    # Landmarks make no difference to it.
    given = {**inputs, "landmarks_xy_px": LANDMARKS.astype(np.float32)}
    np.testing.assert_array_equal(translate(translator, given), found)


def test_a_picture_of_the_networks_size_is_shown_as_it_is():
    fan, image = make_fan(), make_inputs(256)["image"]
    generator = StarGenerator(StarGeneratorConfig(**{**TINY, "image_size": 256}, high_pass=1.0))
    expected = detail_masks(fan({"image": image})["heatmaps"], 256)
    for name, mask in find_details(generator, image, fan=fan).items():
        assert mask.shape == (2, 256, 256, 1)
        np.testing.assert_array_equal(mask, expected[name])
        assert np.ptp(mask) > 0.1


def test_styles_are_those_of_the_nets():
    translator, rng = make_translator(), np.random.default_rng(1)
    domain = np.array([1, 0])
    inputs = {"image": make_inputs()["image"], "domain": domain}
    style = translator.encode_style(inputs)
    assert style.shape == (2, STYLE)
    np.testing.assert_array_equal(style, translator.style_encoder(inputs))
    inputs = {"latent": rng.normal(size=(2, 6)).astype(np.float32), "domain": domain}
    style = translator.map_style(inputs)
    assert style.shape == (2, STYLE)
    np.testing.assert_array_equal(style, translator.mapping(inputs))


def test_it_holds_the_weights_of_all_its_nets():
    fan = built(FAN(FanConfig(width=8)))
    translator = make_translator(high_pass=1.0, fan=fan)
    translate(translator, make_inputs())
    nets = (translator.generator, translator.mapping, translator.style_encoder, fan)
    mine = {id(variable) for variable in translator.variables}
    assert mine == {id(variable) for net in nets for variable in net.variables}
