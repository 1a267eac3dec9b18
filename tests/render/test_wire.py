"""What both ways to a server have in common, against a server of each."""

import threading
import time

import numpy as np
import pytest

from facegan.render.grpc_wire import GrpcWire
from facegan.render.rest_wire import RestWire
from facegan.render.server_address import parse_server
from facegan.render.wire import NotServedError, RefusedError, TransientError, WireTensor
from tests.serving_front import HTTP_STATUS, ServeError


@pytest.fixture(params=["grpc", "http"])
def dial(request, front):
    """Opens a wire to a model."""
    opened = []

    def open_wire(name="toy"):
        address = parse_server(front.url(request.param, name))
        opened.append(GrpcWire(address) if request.param == "grpc" else RestWire(address))
        return opened[-1]

    yield open_wire
    for wire in opened:
        wire.close()


CONDITION = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)


def test_a_model_is_described(dial):
    model = dial("domains").describe(None, 5.0)
    assert model.version == 1
    assert {"serving_default", "uint8", "encode_style", "map_style"} <= set(model.signatures)
    assert not any(name.startswith("_") for name in model.signatures)
    signature = model.signatures["map_style"]
    assert signature.inputs == {
        "latent": WireTensor("float32", (None, 4)),
        "domain": WireTensor("int32", (None,)),
    }
    assert signature.outputs == {"style": WireTensor("float32", (None, 3))}
    assert model.signatures["describe"].inputs["query"] == WireTensor("object", (None,))


def test_numbers_and_bytes_come_through_to_the_last_bit(dial, front):
    wire = dial("domains")
    model = wire.describe(None, 5.0)
    latent = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
    given = {"latent": latent, "domain": np.array([0, 1, 0], np.int32)}
    outputs, _ = wire.predict("map_style", given, 1, 5.0)
    expected, _ = front.models.predict("domains", None, "map_style", given)
    assert outputs["style"].dtype == np.float32
    np.testing.assert_array_equal(outputs["style"], expected["style"])
    query = np.array([b"\x00\xff", b""], object)
    outputs, _ = wire.predict("describe", {"query": query}, model.version, 5.0)
    assert outputs["manifest_bytes"].shape == (2,)
    assert outputs["manifest_bytes"][1].startswith(b"{")


@pytest.mark.parametrize("code", HTTP_STATUS)
def test_errors_are_sorted_by_whether_they_may_pass(dial, front, code):
    def refuse(name, signature):
        raise ServeError(code, "the reason")

    wire = dial()
    wire.describe(None, 5.0)
    front.models.before_predict = refuse
    passing = code in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")
    expected = TransientError if passing else RefusedError
    expected = NotServedError if code == "NOT_FOUND" else expected
    with pytest.raises(expected, match="the reason|no answer"):
        wire.predict("uint8", {"condition": CONDITION}, None, 5.0)


def test_what_a_server_refuses(dial):
    wire = dial()
    wire.describe(None, 5.0)
    for inputs in (
        {"picture": CONDITION},
        {"condition": CONDITION[:, :16]},
        {"condition": CONDITION.astype(np.float32) + 0.5},
    ):
        with pytest.raises(RefusedError):
            wire.predict("uint8", inputs, None, 5.0)
    with pytest.raises(NotServedError, match=r"Servable not found for request: Specific\(toy, 7\)"):
        wire.predict("uint8", {"condition": CONDITION}, 7, 5.0)
    with pytest.raises(NotServedError, match=r"Latest\(anna\)"):
        dial("anna").describe(None, 5.0)


def test_a_model_that_is_being_loaded_is_told_from_one_that_is_not_there(dial, front):
    front.models.held.add("toy")
    wire = dial()
    with pytest.raises(NotServedError):
        wire.describe(None, 5.0)
    assert wire.is_coming(None, 5.0) and wire.is_coming(1, 5.0)
    assert not wire.is_coming(2, 5.0)
    front.models.held.clear()
    assert wire.is_coming(None, 5.0)
    assert not dial("anna").is_coming(None, 5.0)


def test_an_answer_is_waited_for_no_longer_than_was_said(dial, front):
    wire = dial()
    wire.describe(None, 5.0)
    front.models.before_predict = lambda name, signature: time.sleep(1.0)
    start_s = time.monotonic()
    with pytest.raises(TransientError, match="no answer within 0.1 s"):
        wire.predict("uint8", {"condition": CONDITION}, None, 0.1)
    assert time.monotonic() - start_s < 0.9


def test_requests_under_way_can_be_ended(dial, front):
    wire = dial()
    wire.describe(None, 5.0)
    begun, errors = threading.Event(), []

    def wait(name, signature):
        begun.set()
        time.sleep(3.0)

    def ask():
        try:
            wire.predict("uint8", {"condition": CONDITION}, None, 60.0)
        except TransientError as error:
            errors.append(error)

    front.models.before_predict = wait
    thread = threading.Thread(target=ask)
    thread.start()
    begun.wait(5.0)
    start_s = time.monotonic()
    wire.interrupt()
    thread.join()
    assert len(errors) == 1 and time.monotonic() - start_s < 2.0


def test_a_server_that_is_gone_and_one_that_comes_back(dial, front):
    from tests.serving_front import ServingFront

    wire = dial()
    wire.describe(None, 5.0)
    front.stop()
    with pytest.raises(TransientError):
        wire.predict("uint8", {"condition": CONDITION}, None, 5.0)
    with pytest.raises(TransientError):
        wire.is_coming(None, 5.0)
    with ServingFront(front.models, front.grpc_port, front.rest_port):
        deadline = time.monotonic() + 5.0
        while True:
            try:
                outputs, _ = wire.predict("uint8", {"condition": CONDITION}, None, 5.0)
                break
            except TransientError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
    assert outputs["image"].shape == (2, 32, 32, 3)
