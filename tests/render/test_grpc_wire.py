import sys

import numpy as np
import pytest

from facegan.bundle import decode_description
from facegan.errors import ConfigError
from facegan.render.grpc_wire import GrpcWire
from facegan.render.server_address import parse_server
from facegan.render.wire import RefusedError, TransientError
from tests.serving_front import Models, ServingFront

# What REST can do, too, stands in test_wire.py.


@pytest.mark.parametrize("module", ["grpc", "tensorflow_serving"])
def test_a_missing_package_is_named_with_what_installs_it(monkeypatch, module):
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"needs {module}, .*pip install .facegan\[serving\]"):
        GrpcWire(parse_server("grpc://localhost:1/toy"))


def test_batches_beyond_grpc_s_own_limit_come_through(served_models, front):
    wire = GrpcWire(parse_server(front.url("grpc", "toy")))
    batch = np.zeros((1500, 32, 32, 3), np.uint8)  # 4.6 MB each way
    outputs, version = wire.predict("uint8", {"condition": batch}, None, 60.0)
    assert outputs["image"].shape == batch.shape and version == 1
    wire.close()


def test_a_server_may_write_tensors_as_bytes(served_models):
    """``--enable_serialization_as_tensor_content``: numbers and texts in one piece."""
    batch = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    models, answers = Models(served_models), []
    with ServingFront(models) as front:
        wire = GrpcWire(parse_server(front.url("grpc", "toy")))
        for models.as_content in (False, True):
            answers.append(
                [
                    wire.predict("uint8", {"condition": batch}, None, 30.0)[0]["image"],
                    wire.predict("describe", {"query": np.array([b""], object)}, None, 30.0)[0][
                        "manifest_bytes"
                    ],
                ]
            )
        wire.close()
    (numbers, text), (numbers_as_bytes, text_as_bytes) = answers
    np.testing.assert_array_equal(numbers_as_bytes, numbers)
    assert numbers.dtype == np.uint8 and text.tolist() == text_as_bytes.tolist()
    assert decode_description(text[0]).image_size == 32


def test_a_batch_beyond_the_server_s_limit_is_not_sent_again(served_models):
    with ServingFront(Models(served_models), max_message_bytes=1000) as front:
        wire = GrpcWire(parse_server(front.url("grpc", "toy")))
        with pytest.raises(RefusedError, match="larger than max.*lower the batch size"):
            wire.predict("uint8", {"condition": np.zeros((1, 32, 32, 3), np.uint8)}, None, 5.0)
        wire.close()


def test_a_closed_wire_asks_nothing(front):
    wire = GrpcWire(parse_server(front.url("grpc", "toy")))
    wire.close()
    with pytest.raises(TransientError, match="closed"):
        wire.describe(None, 5.0)
