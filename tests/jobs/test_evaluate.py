import numpy as np
import pytest

from facegan.bundle import Manifest, TensorSpec, write_manifest
from facegan.errors import BundleError, DataError
from facegan.face.conditioning import (
    DomainConditioningConfig,
    FewShotConditioningConfig,
    LatentConditioningConfig,
    MaskConditioningConfig,
    encode_conditioning,
)
from facegan.jobs.evaluate import evaluate_holdout
from tests.toy_bundle import export_puppet

# Scores of a trained bundle: tests/integration/test_train_export_render.py.


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError):
        evaluate_holdout(tmp_path, tmp_path)


def test_a_bundle_that_takes_no_face_is_refused(tmp_path):
    export_puppet(tmp_path / "bundle", lambda x: x * np.float32(0.5), size=16)
    with pytest.raises(DataError, match="takes no face"):
        evaluate_holdout(tmp_path / "bundle", tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (MaskConditioningConfig(), "from maps of their regions, .*; use .* several of them, with"),
        (LatentConditioningConfig(), "makes faces of noise, .* and --count"),
        (DomainConditioningConfig(), "into those of other domains, .* and --outputs"),
        (FewShotConditioningConfig(), "from a few pictures, .* --run_dir in place of --bundle"),
    ],
)
def test_bundles_that_other_measures_are_for_are_refused(tmp_path, config, message):
    image = TensorSpec(name="image", shape=(None, 32, 32, 3))
    manifest = Manifest(
        model="puppet",
        facegan_version="0",
        inputs=(image,),
        outputs=(image,),
        image_size=32,
        conditioning=encode_conditioning(config),
    )
    write_manifest(tmp_path, manifest)
    with pytest.raises(BundleError, match=message):
        evaluate_holdout(tmp_path, tmp_path)
