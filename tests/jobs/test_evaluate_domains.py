import numpy as np
import pytest

from facegan.datasets.builder import find_config, prepare_items
from facegan.datasets.image_folder.image_folder_dataset_builder import Builder
from facegan.errors import DataError
from facegan.evaluation.lpips import make_distance
from facegan.image import write_image
from facegan.jobs.evaluate_domains import DomainEvaluationConfig, evaluate_domains
from facegan.preparation.image_folder import ImageFolderConfig
from facegan.preparation.workers import WorkersConfig
from tests.domain_puppet import export_domain_puppet

SIZE = 32


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return export_domain_puppet(tmp_path_factory.mktemp("bundles") / "puppet", size=SIZE)


def build(folder, names=("cat", "dog")):
    random = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 2)):
        for name in names:
            (folder / "raw" / split / name).mkdir(parents=True)
            for number in range(count):
                picture = random.integers(0, 256, (8, 8, 3), np.uint8).repeat(4, 0).repeat(4, 1)
                write_image(folder / "raw" / split / name / f"{number}.png", picture)
    builder = Builder(
        data_dir=folder / "data",
        config=find_config(Builder, ImageFolderConfig(size=SIZE)),
        source=folder / "raw",
        workers=WorkersConfig(processes=0),
    )
    return prepare_items(builder)["dataset_dir"]


def test_references_of_a_pair_score_as_by_hand(bundle, tmp_path):
    dataset = build(tmp_path)
    config = DomainEvaluationConfig(outputs=2, lpips="random")
    scores = evaluate_domains(bundle, dataset, config)
    assert scores["pictures"] == {"cat": 2, "dog": 2} and scores["lpips_weights"] == "random"
    # With two references and two outputs, each picture is painted in both, in some order.
    from facegan.image import read_image, to_float, to_uint8

    def pictures(name):
        folder = tmp_path / "raw" / "test" / name
        return [to_float(read_image(path)) for path in sorted(folder.iterdir())]

    distance = make_distance("random")
    apart = []
    for source in pictures("cat"):
        styles = [reference.mean(axis=(0, 1)) - 0.5 for reference in pictures("dog")]
        a, b = (to_uint8(0.5 * (source + style))[None] for style in styles)
        apart.append(float(distance(a, b)[0]))
    found = scores["reference"]["pairs"]["cat to dog"]["lpips"]
    assert found == pytest.approx(np.mean(apart), rel=1e-3)
    assert "fid" not in scores["latent"]


@pytest.mark.slow
def test_the_fid_compares_with_training_pictures(bundle, tmp_path):
    config = DomainEvaluationConfig(outputs=2, inception="random")
    scores = evaluate_domains(bundle, build(tmp_path), config)
    pairs = scores["latent"]["pairs"]
    assert set(pairs) == {"cat to dog", "dog to cat"} and scores["fid_features"] == "random"
    assert scores["latent"]["fid"] == pytest.approx(np.mean([p["fid"] for p in pairs.values()]))


def test_other_domains_are_refused(bundle, tmp_path):
    config = DomainEvaluationConfig(lpips="random")
    with pytest.raises(
        DataError, match="knows the domains cat, dog, but those of .* are cat, wolf"
    ):
        evaluate_domains(bundle, build(tmp_path, ("cat", "wolf")), config)
