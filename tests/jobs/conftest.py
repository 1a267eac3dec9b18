"""What the tests of several jobs share: it takes seconds to make."""

import pytest


@pytest.fixture(scope="session")
def small_style_puppet(tmp_path_factory):
    """A StyleGAN2 bundle of 16 px, of pictures that are not aligned by a face."""
    from tests.style_puppet import export_style_puppet

    return export_style_puppet(tmp_path_factory.mktemp("style_puppet") / "puppet", size=16)
