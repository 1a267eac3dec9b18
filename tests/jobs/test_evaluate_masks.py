import json
import logging

import numpy as np
import pytest

from facegan.datasets.pipeline import read_records
from facegan.errors import BundleError, ConfigError, DataError
from facegan.evaluation.fid import GaussianStatistics, frechet_distance, make_inception
from facegan.evaluation.lpips import make_distance
from facegan.evaluation.pairs import evaluate_pairs
from facegan.evaluation.segmentation import ConfusionMatrix
from facegan.face import identity
from facegan.face.label_maps import convert_labels
from facegan.face.labels import CELEBAMASK19, GROUPS7
from facegan.face.mask_groups import draw_colour_map, show_groups
from facegan.face.parsing import ParserConfig
from facegan.image import decode_picture
from facegan.jobs.evaluate_masks import (
    MaskEvaluationConfig,
    MaskSample,
    evaluate_masks,
    paint_samples,
    write_masks_page,
)
from tests.domain_puppet import export_domain_puppet
from tests.layout_puppets import (
    SIZE,
    build_face_dataset,
    export_painter,
    export_parser_puppet,
    remember,
    show_layout,
)

PARSER = ParserConfig(size=64)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return build_face_dataset(tmp_path_factory.mktemp("faces"))


@pytest.fixture(scope="module")
def real(dataset):
    """Pictures [3, S, S, 3] and maps of groups [3, S, S], in the records' order."""
    records = list(read_records(dataset, "test").as_numpy_iterator())
    maps = [decode_picture(record["label_map"])[..., 0] for record in records]
    return (
        np.stack([decode_picture(record["image"]) for record in records]),
        np.stack([convert_labels(found, CELEBAMASK19, GROUPS7) for found in maps]),
    )


@pytest.fixture(scope="module")
def painter(tmp_path_factory):
    return export_painter(tmp_path_factory.mktemp("bundles") / "painter")


@pytest.fixture(scope="module")
def memory(dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundles") / "memory"
    return export_painter(path, remember(dataset), identity=True)


@pytest.fixture(scope="module")
def blank(tmp_path_factory):
    path = tmp_path_factory.mktemp("bundles") / "blank"
    return export_painter(path, lambda inputs: 0.0 * show_layout(inputs))


@pytest.fixture(scope="module")
def scores(painter, memory, blank, dataset):
    config = MaskEvaluationConfig(parser=PARSER, lpips="random")
    return evaluate_masks([memory, painter, blank], dataset, config)


def paint_by_hand(real, lend=False):
    images, maps = real
    asked = np.roll(maps, -1, axis=0) if lend else maps
    painted = []
    for image, own, shown in zip(images, maps, asked, strict=True):
        colours = show_groups(image, own, 7)["colours"]
        painted.append(draw_colour_map(show_groups(image, shown, 7)["masks"], colours))
    return np.stack(painted)


def test_a_model_that_shows_the_person_scores_as_the_real_pictures(scores, memory):
    own, other = scores["bundles"][str(memory)].values()
    assert own["ssim"] == pytest.approx(1.0) and own["psnr_db"] == 100.0
    assert own["l1"] == own["identity_distance"] == 0.0
    assert own["lpips"] == pytest.approx(0.0, abs=1e-6)
    # As far as the parser goes, which looks at other pixels here than when the maps were made.
    assert own["pixel_accuracy"] > 0.85 and own["mean_iou"] > 0.6
    assert own["iou"]["mouth"] > 0.6
    # It keeps to no other's map, and stays who it is.
    assert other["pixel_accuracy"] < own["pixel_accuracy"] - 0.1
    assert other["identity_distance"] == 0.0
    assert 0.3 < other["identity_distance_owner"] < 1.0
    assert "ssim" not in other and "fid" not in own and "fid" not in other
    for kind, found in (("reconstruction", own), ("manipulation", other)):
        shared = ("pixel_accuracy", "mean_iou", "iou", "faces")
        if kind == "manipulation":
            shared += ("identity_distance_owner",)
        assert scores["real"][kind] == {name: found[name] for name in shared}
        assert found["faces"] == 1.0


def test_reconstructions_are_compared_with_their_pictures(scores, painter, real):
    own = scores["bundles"][str(painter)]["reconstruction"]
    pairs = evaluate_pairs(list(real[0]), list(paint_by_hand(real)))
    for name in ("ssim", "psnr_db", "l1"):
        assert own[name] == pytest.approx(pairs[name])
    lpips = make_distance("random")(real[0], paint_by_hand(real))
    assert own["lpips"] == pytest.approx(lpips.mean(), rel=1e-4)


def test_pictures_without_a_face_are_background(scores, blank, real):
    own, other = scores["bundles"][str(blank)].values()
    for found in (own, other):
        assert found["faces"] == 0.0 and found["identity_distance"] is None
        assert found["pixel_accuracy"] == pytest.approx(np.mean(real[1] == 0))
        assert found["iou"]["skin"] == 0.0
    assert other["identity_distance_owner"] is None


def test_what_was_measured_is_told(scores, painter, memory, blank):
    assert list(scores["bundles"]) == [str(memory), str(painter), str(blank)]
    told = {name: value for name, value in scores.items() if name not in ("bundles", "real")}
    assert told == {
        "pictures": 3,
        "size": SIZE,
        "schema": "groups7",
        "parser": None,
        "fid_features": None,
        "lpips_weights": "random",
    }
    json.dumps(scores, allow_nan=False)


def test_each_layout_is_compared_with_the_map_it_was_asked_for(painter, dataset, real, tmp_path):
    """A parser bundle needs no face, so that everything can be done by hand."""
    parser = export_parser_puppet(tmp_path / "parser")
    config = MaskEvaluationConfig(parser=ParserConfig(bundle=str(parser)))
    scores = evaluate_masks([painter], dataset, config)
    for kind, lend in (("reconstruction", False), ("manipulation", True)):
        asked = np.roll(real[1], -1, axis=0) if lend else real[1]
        for found, images in (
            (scores["bundles"][str(painter)][kind], paint_by_hand(real, lend)),
            (scores["real"][kind], real[0]),
        ):
            matrix = ConfusionMatrix(8)
            for image, label_map in zip(images, asked, strict=True):
                bright = image.mean(axis=-1) > 127.5
                matrix.update(label_map, np.where(bright, GROUPS7.index("skin"), 0))
            expected = matrix.scores(GROUPS7)
            for name in ("pixel_accuracy", "mean_iou", "iou"):
                assert found[name] == pytest.approx(expected[name])
    assert scores["parser"] == str(parser)


@pytest.mark.slow
def test_both_kinds_are_compared_with_the_real_pictures_as_sets(painter, dataset, real):
    config = MaskEvaluationConfig(parser=PARSER, inception="random")
    scores = evaluate_masks([painter], dataset, config)
    features = make_inception("random")
    statistics = []
    for images in (real[0], paint_by_hand(real, lend=True)):
        statistics.append(GaussianStatistics())
        statistics[-1].update(features(images))
    own, other = scores["bundles"][str(painter)].values()
    assert other["fid"] == pytest.approx(frechet_distance(*statistics), rel=1e-3)
    assert 0 < own["fid"] != other["fid"]
    assert scores["fid_features"] == "random" and "fid" not in scores["real"]["manipulation"]


def test_without_dlibs_model_identities_are_left_out(
    painter, dataset, tmp_path, monkeypatch, caplog
):
    def missing():
        raise ConfigError("It is not there.")

    monkeypatch.setattr(identity, "_network", missing)
    parser = export_parser_puppet(tmp_path / "parser")
    config = MaskEvaluationConfig(parser=ParserConfig(bundle=str(parser)))
    with caplog.at_level(logging.WARNING, "facegan"):
        scores = evaluate_masks([painter], dataset, config)
    assert "Identities are not compared: It is not there." in caplog.text
    own, other = scores["bundles"][str(painter)].values()
    # Nor is any face looked for, which the parser does not need.
    assert not {"faces", "identity_distance", "identity_distance_owner"} & {*own, *other}


def test_samples_show_what_was_asked_for(painter, memory, dataset, real):
    first, second = paint_samples([painter, memory], dataset, count=2)
    np.testing.assert_array_equal(first.image, real[0][0])
    for i, sample in enumerate((first, second)):
        for lend in (False, True):
            expected = paint_by_hand(real, lend)[i]
            np.testing.assert_array_equal(sample.maps[lend], expected)
            np.testing.assert_array_equal(sample.painted[str(painter)][lend], expected)
            np.testing.assert_array_equal(sample.painted[str(memory)][lend], real[0][i])
    # The last is lent the map of the first.
    last = paint_samples([painter], dataset, count=9)[2]
    np.testing.assert_array_equal(last.maps[1], paint_by_hand(real, lend=True)[2])


def test_the_page_has_a_row_a_bundle_and_its_pictures(tmp_path):
    own = {"ssim": 0.5, "pixel_accuracy": 0.75, "identity_distance": None, "iou": {"skin": 0.1}}
    other = {"pixel_accuracy": 0.7, "identity_distance_owner": 0.85}
    scores = {
        "bundles": {name: {"reconstruction": own, "manipulation": other} for name in "ab"},
        "real": {
            "reconstruction": {"pixel_accuracy": 0.95},
            "manipulation": {"pixel_accuracy": 0.65, "identity_distance_owner": 0.8},
        },
        "pictures": 3,
        "size": 16,
    }
    grey = np.full((16, 16, 3), 90, np.uint8)
    sample = MaskSample(image=grey, maps=(grey, grey), painted={n: (grey, grey) for n in "ab"})
    write_masks_page(tmp_path / "page.html", scores, [sample, sample])
    text = (tmp_path / "page.html").read_text()
    assert "<th>SSIM, own map</th><th>Pixel accuracy, own map</th>" in text
    assert "<th>Pixel accuracy, other map</th>" in text and "LPIPS" not in text
    for name in "ab":
        cells = "</td><td>".join((name, "0.5", "0.75", "&ndash;", "0.7", "0.85"))
        assert f"<tr><td>{cells}</td></tr>" in text
    assert "<td>real pictures</td><td>&ndash;</td><td>0.95</td>" in text
    assert text.count("<figure>") == 2 * 2 * 5 and "<h2>Picture 2, b</h2>" in text
    write_masks_page(tmp_path / "page.html", scores)
    assert "<figure>" not in (tmp_path / "page.html").read_text()


def test_bundles_that_cannot_be_compared_are_refused(painter, dataset, tmp_path):
    with pytest.raises(ConfigError, match="named once each, got none"):
        evaluate_masks([], dataset)
    with pytest.raises(ConfigError, match="named once each, got .*painter, .*painter"):
        paint_samples([painter, painter], dataset)
    domains = export_domain_puppet(tmp_path / "domains", size=32)
    with pytest.raises(BundleError, match="domains paints no faces from segmentation maps"):
        evaluate_masks([painter, domains], dataset)
    small = export_painter(tmp_path / "small", size=32)
    with pytest.raises(ConfigError, match="of one size and schema, got 64 and .* 32 and .*small"):
        evaluate_masks([painter, small], dataset)


def test_a_split_without_another_picture_is_refused(painter, dataset):
    with pytest.raises(DataError, match="too few pictures, 1: each is lent"):
        evaluate_masks([painter], dataset, MaskEvaluationConfig(split="test[:1]"))
    with pytest.raises(DataError, match="no split 'train'"):
        paint_samples([painter], dataset, "train")
