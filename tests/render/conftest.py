import pytest

from tests.domain_puppet import export_domain_puppet
from tests.toy_bundle import export_toy


@pytest.fixture(scope="session")
def served_models(tmp_path_factory):
    """A folder as TensorFlow Serving has it, with the models "toy" and "domains"."""
    folder = tmp_path_factory.mktemp("models")
    export_toy(folder / "toy" / "1")
    export_domain_puppet(folder / "domains" / "1")
    return folder


@pytest.fixture
def front(served_models):
    """A server of them."""
    from tests.serving_front import Models, ServingFront

    with ServingFront(Models(served_models)) as started:
        yield started
