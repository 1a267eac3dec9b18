import numpy as np
import pytest
import tensorflow as tf

from facegan.bundle import MethodSpec, TensorSpec
from facegan.datasets.builder import find_config, prepare_items
from facegan.datasets.image_folder.image_folder_dataset_builder import Builder
from facegan.errors import BundleError, ConfigError, DataError
from facegan.evaluation.fid import GaussianStatistics, frechet_distance, make_inception
from facegan.evaluation.kid import kernel_distance
from facegan.evaluation.lpips import make_distance
from facegan.evaluation.path_length import perceptual_path_length
from facegan.evaluation.precision_recall import precision_and_recall
from facegan.export.saved_model import ServingSpec, export_bundle
from facegan.face.conditioning import LatentConditioningConfig, encode_conditioning
from facegan.image import read_image, to_uint8, write_image
from facegan.jobs.evaluate_pictures import (
    PictureEvaluationConfig,
    evaluate_pictures,
    write_pictures_page,
)
from facegan.preparation.image_folder import ImageFolderConfig
from facegan.preparation.workers import WorkersConfig
from tests.domain_puppet import export_domain_puppet
from tests.toy_bundle import image_spec

SIZE, LAYERS, WIDTH = 32, 2, 4
PATTERNS = np.random.default_rng(1).uniform(-0.3, 0.3, (WIDTH, SIZE, SIZE, 3)).astype(np.float32)


class LatentPuppet:
    """A style is half the latent, in all layers; a picture is the patterns by the first one's."""

    def __init__(self, precision="float32"):
        self.compute_dtype = precision

    def __call__(self, inputs):
        return tf.tensordot(inputs["w"][:, 0], tf.constant(PATTERNS), 1)

    def map_style(self, inputs):
        w = 0.5 * inputs["latent"] * inputs["truncation"][:, None]
        return tf.tile(w[:, None], (1, LAYERS, 1))


def paint_by_hand(w):
    return np.tensordot(w[:, 0], PATTERNS, 1)


def export_latent_puppet(path, precision="float32"):
    free = {"value_range": None}
    w = TensorSpec(name="w", shape=(None, LAYERS, WIDTH), **free)
    latent = TensorSpec(name="latent", shape=(None, WIDTH), **free)
    truncation = TensorSpec(name="truncation", shape=(None,), value_range=(0.0, 1.0))
    spec = ServingSpec(
        model=LatentPuppet(precision),
        inputs=(w,),
        outputs=(image_spec("image", SIZE),),
        methods={"map_style": MethodSpec(inputs=(latent, truncation), outputs=(w,))},
    )
    conditioning = encode_conditioning(LatentConditioningConfig(size=SIZE))
    export_bundle(path, spec, model_name="puppet", image_size=SIZE, conditioning=conditioning)
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return export_latent_puppet(tmp_path_factory.mktemp("bundles") / "puppet")


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Pictures of both splits."""
    folder, random = tmp_path_factory.mktemp("raw"), np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3)):
        (folder / split / "all").mkdir(parents=True)
        for number in range(count):
            picture = random.integers(0, 256, (8, 8, 3), np.uint8).repeat(4, 0).repeat(4, 1)
            write_image(folder / split / "all" / f"{number}.png", picture)
    return folder


@pytest.fixture(scope="module")
def dataset(raw, tmp_path_factory):
    builder = Builder(
        data_dir=tmp_path_factory.mktemp("data"),
        config=find_config(Builder, ImageFolderConfig(size=SIZE)),
        source=raw,
        workers=WorkersConfig(processes=0),
    )
    return prepare_items(builder)["dataset_dir"]


@pytest.mark.slow
def test_sets_score_as_by_hand(bundle, raw, dataset):
    # At a truncation of 0 all that is drawn is one grey picture.
    config = PictureEvaluationConfig(count=6, inception="random", truncation=0.0)
    scores = evaluate_pictures(bundle, dataset, config)
    features = make_inception("random")
    grey = np.full((SIZE, SIZE, 3), to_uint8(np.zeros(())), np.uint8)
    real = features([read_image(path) for path in sorted((raw / "train" / "all").iterdir())])
    fake = features([grey]).repeat(6, axis=0)
    statistics = []
    for part in (real, fake):
        statistics.append(GaussianStatistics())
        statistics[-1].update(part)
    assert scores["fid"] == pytest.approx(frechet_distance(*statistics), rel=1e-3)
    # Every subset is the whole of both sets.
    assert scores["kid"] == pytest.approx(kernel_distance(real, fake)[0], rel=1e-3)
    assert scores["kid_std"] == pytest.approx(0.0, abs=1e-3 * scores["kid"])
    assert (scores["precision"], scores["recall"]) == precision_and_recall(real, fake)
    rest = {name: scores[name] for name in (*scores,)[5:]}
    assert rest == {
        "pictures": 6,
        "generated": 6,
        "path_samples": 0,
        "truncation": 0.0,
        "fid_features": "random",
        "lpips_weights": None,
    }


def test_the_path_length_is_that_of_the_painter(bundle, dataset):
    config = PictureEvaluationConfig(lpips="random", path_samples=400, truncation=0.5)
    allowed = tf.config.experimental.tensor_float_32_execution_enabled()
    scores = evaluate_pictures(bundle, dataset, config)
    assert tf.config.experimental.tensor_float_32_execution_enabled() == allowed
    random = np.random.default_rng(5)

    def draw(count):
        w = 0.5 * 0.5 * random.standard_normal((count, 1, WIDTH))
        return w.repeat(LAYERS, axis=1)

    distance = make_distance("random").between_floats
    expected = perceptual_path_length(paint_by_hand, distance, draw, 400)
    # Other draws of 400 pairs.
    assert scores["ppl"] == pytest.approx(expected, rel=0.2)
    assert "fid" not in scores and scores["lpips_weights"] == "random"
    assert (scores["pictures"], scores["generated"], scores["path_samples"]) == (0, 0, 400)


def test_the_seed_decides(bundle, dataset):
    def measure(**changes):
        config = PictureEvaluationConfig(lpips="random", path_samples=9, **changes)
        return evaluate_pictures(bundle, dataset, config)["ppl"]

    assert measure() == measure() != measure(seed=1)
    assert measure(truncation=0.0) == 0.0


def test_the_page_tells_what_was_measured(tmp_path):
    scores = {
        "fid": 12.5,
        "kid": 0.0025,
        "pictures": 60,
        "generated": 50,
        "path_samples": 0,
        "truncation": 0.7,
        "fid_features": "imagenet",
        "lpips_weights": None,
    }
    write_pictures_page(tmp_path / "page.html", "b", scores)
    text = (tmp_path / "page.html").read_text()
    assert "<td>FID</td><td>12.5</td>" in text and "<td>KID</td><td>0.0025</td>" in text
    assert "Truncation 0.7. 50 drawn pictures against 60 of the dataset" in text
    assert "Path" not in text and "LPIPS" not in text
    scores = {**scores, "ppl": 100.0, "generated": 0, "path_samples": 9, "lpips_weights": "x.npz"}
    write_pictures_page(tmp_path / "page.html", "b", scores)
    text = (tmp_path / "page.html").read_text()
    assert "<td>Perceptual path length</td><td>100</td>" in text
    assert "9 pairs, by LPIPS with the weights x.npz." in text and "drawn pictures ag" not in text


def test_other_bundles_are_refused(dataset, tmp_path):
    config = PictureEvaluationConfig(lpips="random")
    other = export_domain_puppet(tmp_path / "domains", size=SIZE)
    with pytest.raises(BundleError, match="makes no faces of noise"):
        evaluate_pictures(other, dataset, config)
    coarse = export_latent_puppet(tmp_path / "coarse", "bfloat16")
    with pytest.raises(BundleError, match="computes in bfloat16, which is coarser"):
        evaluate_pictures(coarse, dataset, config)


def test_too_few_pictures_are_refused_before_any_is_painted(bundle, dataset):
    config = PictureEvaluationConfig(inception="random", split="test")
    with pytest.raises(DataError, match="'test' of .* too few pictures.* 3; at least 4"):
        evaluate_pictures(bundle, dataset, config)
    config = PictureEvaluationConfig(inception="random", split="none")
    with pytest.raises(DataError, match="no split 'none'"):
        evaluate_pictures(bundle, dataset, config)


def test_configs_are_checked():
    with pytest.raises(ConfigError, match="nothing to measure"):
        PictureEvaluationConfig()
    with pytest.raises(ConfigError, match="count must be at least 4.*got 3 and 10000"):
        PictureEvaluationConfig(count=3, inception="random")
    with pytest.raises(ConfigError, match=r"truncation must be in \[0, 1\].*got 1.5 and 0"):
        PictureEvaluationConfig(truncation=1.5, lpips="random")
