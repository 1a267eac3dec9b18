import numpy as np
import pytest

from facegan.bundle import read_manifest
from facegan.errors import ConfigError
from facegan.jobs.face_layouts import GridConfig, MixingConfig, TruncationsConfig, WalkConfig
from facegan.render.engine import BundleMethods, load_engine
from facegan.render.faces import Faces
from tests.style_puppet import export_style_puppet


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    bundle = export_style_puppet(tmp_path_factory.mktemp("bundles") / "puppet", size=8)
    return Faces(load_engine(bundle, "tensorflow"), BundleMethods(bundle, read_manifest(bundle)))


def test_a_grid_is_nearly_square():
    shapes = [GridConfig().shape(count) for count in (1, 2, 3, 4, 5, 7, 9, 10, 100)]
    expected = [(1, 1), (1, 2), (2, 2), (2, 2), (2, 3), (3, 3), (3, 3), (3, 4), (10, 10)]
    assert shapes == expected


@pytest.mark.parametrize(
    ("sheet", "lengths"),
    [
        (GridConfig(), [3, 2]),
        (TruncationsConfig(truncations=(0.0, 0.5)), [2] * 5),
        # The first row lacks the corner.
        (MixingConfig(columns="7-9", layers="0,2"), [3] + [4] * 5),
    ],
)
def test_sheets_have_the_shape_that_they_tell(faces, sheet, lengths):
    numbers = (4, 1, 6, 2, 9)
    rows = list(sheet.rows(faces, numbers))
    assert [len(row) for row in rows] == lengths
    assert sheet.shape(len(numbers)) == (len(rows), max(lengths))
    assert {row.shape[1:] for row in rows} == {(4, 8)}


def test_mixtures_take_the_named_layers(faces):
    _, row = MixingConfig(columns="7", layers="coarse").rows(faces, [1])
    np.testing.assert_allclose(row[1], faces.find_w([7])[0], atol=1e-6)
    with pytest.raises(ConfigError, match="names layer 4, but this bundle's layers are 0-3"):
        MixingConfig(columns="7", layers="middle").rows(faces, [1])


def test_a_walk_has_whole_frames():
    assert WalkConfig(seconds=2.0, fps=30).steps == 60
    assert WalkConfig(seconds=0.04, fps=25).steps == 1
    for changes in ({"seconds": 0.0}, {"seconds": -1.0}, {"fps": 0}, {"seconds": float("nan")}):
        with pytest.raises(ConfigError, match="at least one frame from face to face"):
            WalkConfig(**changes)
    with pytest.raises(ConfigError, match="at least one frame"):
        WalkConfig(seconds=float("inf"))


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="truncations must be finite"):
        TruncationsConfig(truncations=())
    with pytest.raises(ConfigError, match="truncations must be finite"):
        TruncationsConfig(truncations=(0.5, float("nan")))
    with pytest.raises(ConfigError, match="columns must be whole numbers"):
        MixingConfig(columns="a")
    with pytest.raises(ConfigError, match="layers must be coarse, middle, fine"):
        MixingConfig(columns="1", layers="thick")
