import numpy as np
import pytest

from facegan.errors import BundleError, DataError
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
