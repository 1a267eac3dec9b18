import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.models.talking_head import (
    Embedder,
    EmbedderConfig,
    PersonGenerator,
    TalkingHeadConfig,
    TalkingHeadDiscriminator,
    TalkingHeadDiscriminatorConfig,
    TalkingHeadGenerator,
    fold_embedded,
    make_personal,
)
from facegan.training.trainer import count_parameters
from tests.spectral import settle

SIZE = 32
HEAD = TalkingHeadConfig(image_size=SIZE, base_width=2, num_blocks=1, embedding_size=16)
EMBEDDER = EmbedderConfig(image_size=SIZE, base_width=2, num_downs=4)


def built(net):
    net.build({name: (None, *shape) for name, shape in net.input_shapes().items()})
    return net


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (*shape, SIZE, SIZE, 3)).astype(np.float32)


def test_parameters_are_the_papers():
    nets = {
        "E": built(Embedder(EmbedderConfig())),
        "G": built(TalkingHeadGenerator(TalkingHeadConfig())),
        "person": built(PersonGenerator(TalkingHeadConfig())),
        "D": built(TalkingHeadDiscriminator(TalkingHeadDiscriminatorConfig())),
    }
    projection = 512 * 13_062
    assert count_parameters(nets) == {
        "E": 14_907_265,
        "G": 31_367_996 + projection,
        "person": 31_367_996 + 13_062,
        "D": 19_629_442,
    }
    assert sum(TalkingHeadConfig().style_sizes) == 13_062


def test_an_embedding_is_the_mean_over_pictures_in_any_order():
    net = built(Embedder(EMBEDDER))
    images, drawings = pictures(2, 3), pictures(2, 3, seed=1)
    out = np.asarray(net({"images": images, "conditions": drawings}))
    assert out.shape == (2, 16) and (out >= 0).all()
    each = [
        np.asarray(net({"images": images[:, k : k + 1], "conditions": drawings[:, k : k + 1]}))
        for k in range(3)
    ]
    np.testing.assert_allclose(out, np.mean(each, axis=0), rtol=1e-4, atol=1e-5)
    turned = net({"images": images[:, ::-1], "conditions": drawings[:, ::-1]})
    np.testing.assert_allclose(turned, out, rtol=1e-4, atol=1e-5)


def test_a_person_s_generator_begins_as_the_meta_learned_one_with_its_embedding():
    generator, person = built(TalkingHeadGenerator(HEAD)), built(PersonGenerator(HEAD))
    embedding = np.random.default_rng(0).uniform(0, 2, (2, 16)).astype(np.float32)
    inputs = {"condition": pictures(2), "embedding": embedding}
    settle(generator)
    make_personal(person, generator, embedding[1])
    expected = np.asarray(generator(inputs))
    out = np.asarray(person({"condition": inputs["condition"]}))
    np.testing.assert_allclose(out[1], expected[1], atol=1e-4)
    assert np.abs(out[0] - expected[0]).max() > 1e-3  # another's face
    person.style.assign_add(np.ones(person.style.shape))
    np.testing.assert_array_equal(generator(inputs), expected)  # nothing is shared


def test_the_score_is_a_product_with_the_video_s_row():
    net = built(
        TalkingHeadDiscriminator(
            TalkingHeadDiscriminatorConfig(image_size=SIZE, base_width=2, num_downs=4)
        )
    )
    inputs = {"image": pictures(2), "condition": pictures(2, seed=1)}
    settle(net)
    net.offset.assign([0.25])
    plain = net(inputs)
    last = np.asarray(plain["features"][-1]).max(axis=(1, 2)).clip(0)
    direction = np.asarray(net.direction)
    np.testing.assert_allclose(plain["logits"][:, 0], last @ direction + 0.25, rtol=1e-4)
    rows = np.random.default_rng(2).normal(size=(2, 16)).astype(np.float32)
    out = net({**inputs, "embedding": rows})["logits"][:, 0]
    np.testing.assert_allclose(out, (last * (rows + direction)).sum(axis=1) + 0.25, rtol=1e-4)


def test_folded_for_serving_it_gives_the_same():
    generator, embedder = built(TalkingHeadGenerator(HEAD)), built(Embedder(EMBEDDER))
    shots = {"images": pictures(2, 3), "conditions": pictures(2, 3, seed=1)}
    embedding = embedder(shots)
    inputs = {"condition": pictures(2), "embedding": embedding}
    settle(generator, embedder)
    folded = fold_embedded(generator, embedder)
    np.testing.assert_allclose(folded(inputs), generator(inputs), atol=1e-4)
    np.testing.assert_allclose(folded.embed(shots), embedder(shots), rtol=1e-4, atol=1e-5)


def test_fewer_halvings_leave_a_larger_map():
    config = TalkingHeadConfig(
        image_size=SIZE, base_width=2, num_downs=3, first_kernel_size=3, num_blocks=1
    )
    assert config.down_filters == (2, 4, 8)
    assert config.up_filters == (4, 2, 3)
    # Two norms of a residual block, then two of each block that doubles; scale and shift each.
    assert config.style_sizes == (4 * 8, 2 * (8 + 4), 2 * (4 + 2), 2 * (2 + 3))
    net = built(PersonGenerator(config))
    assert net({"condition": pictures(2)}).shape == (2, SIZE, SIZE, 3)
    # The attentions stand at an eighth and at a quarter of the size.
    assert net.down_attention.key.kernel.shape[2] == 8
    assert net.up_attention.key.kernel.shape[2] == 4


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="num_downs must be from 3 to 4 at 32 px, got 2"):
        TalkingHeadConfig(image_size=SIZE, num_downs=2)
    with pytest.raises(ConfigError, match="first_kernel_size must be odd and positive, got 4"):
        TalkingHeadConfig(image_size=SIZE, first_kernel_size=4)
    with pytest.raises(ConfigError, match="num_downs must be from 4 to 4 at 32 px, got 6"):
        EmbedderConfig(image_size=32)
    with pytest.raises(ConfigError, match="image_size"):
        TalkingHeadConfig(image_size=100)
    with pytest.raises(ConfigError, match="multiples of 16"):
        built(TalkingHeadGenerator(HEAD))(
            {"condition": np.zeros((1, 24, 24, 3)), "embedding": np.zeros((1, 16))}
        )
