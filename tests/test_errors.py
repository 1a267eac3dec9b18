import inspect

import pytest

from facegan import errors


def test_every_error_is_a_facegan_error():
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass)]
    assert {c.__name__ for c in classes} == {
        "FaceganError",
        "ConfigError",
        "DataError",
        "CheckpointError",
        "BundleError",
        "VideoError",
    }
    for cls in classes:
        with pytest.raises(errors.FaceganError, match="what went wrong"):
            raise cls("what went wrong")
