import http.server
import json
import subprocess
import sys
import threading

import numpy as np
import pytest

from facegan.render.rest_wire import RestWire
from facegan.render.server_address import parse_server
from facegan.render.wire import MalformedError, NotServedError, RefusedError, TransientError

# What gRPC can do, too, stands in test_wire.py.


@pytest.fixture
def canned():
    """A server that gives the answers in a list, one after the other; and a wire to it."""
    answers = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, data = answers.pop(0)
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        wire = RestWire(parse_server(f"http://127.0.0.1:{server.server_address[1]}/toy"))
        yield answers, wire
        wire.close()
        server.shutdown()
        thread.join()


def metadata(*outputs):
    tensor = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}]}}
    signature = {"inputs": {"x": tensor}, "outputs": {name: tensor for name in outputs}}
    inner = {"signature_def": {"run": signature}}
    document = {"model_spec": {"version": "4"}, "metadata": {"signature_def": inner}}
    return 200, json.dumps(document).encode()


def test_one_output_comes_without_a_name_and_several_with_theirs(canned):
    answers, wire = canned
    x = {"x": np.float32([1, 2])}
    answers += [metadata("y"), (200, b'{"outputs": [1.5, Infinity]}')]
    assert wire.describe(None, 5.0).version == 4
    np.testing.assert_array_equal(wire.predict("run", x, 4, 5.0)[0]["y"], [1.5, np.inf])
    answers += [metadata("y", "z"), (200, b'{"outputs": {"z": [1], "y": [2]}}')]
    wire.describe(None, 5.0)
    found, version = wire.predict("run", x, 4, 5.0)
    assert version is None and {name: float(v[0]) for name, v in found.items()} == {"y": 2, "z": 1}
    assert found["z"].dtype == np.float32


@pytest.mark.parametrize(
    "answer, error, reason",
    [
        ((200, b"<html>"), MalformedError, "no JSON"),
        ((200, b"{}"), MalformedError, "lacks 'model_spec'"),
        ((200, b"[]"), MalformedError, "lacks"),
        ((500, b"<html>"), RefusedError, "HTTP status 500"),
        ((502, b"<html>"), TransientError, "HTTP status 502"),
        ((429, b'{"error": "too many"}'), TransientError, "too many"),
        ((404, b'{"error": "no\\nmodel"}'), NotServedError, "no model"),
        ((400, b'["?"]'), RefusedError, "HTTP status 400"),
    ],
)
def test_answers_that_are_none(canned, answer, error, reason):
    answers, wire = canned
    answers.append(answer)
    with pytest.raises(error, match=reason):
        wire.describe(None, 5.0)


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b'{"outputs": [["ragged"], []]}',
        b'{"outputs": {"w": [1]}}',
        b'{"outputs": "x"}',
        b'{"outputs": [[1], [1, 2]]}',
    ],
)
def test_outputs_that_make_no_sense(canned, text):
    answers, wire = canned
    answers += [metadata("y"), (200, text)]
    wire.describe(None, 5.0)
    with pytest.raises(MalformedError, match="outputs cannot be read"):
        wire.predict("run", {"x": np.float32([1])}, None, 5.0)


def test_states_that_make_no_sense(canned):
    answers, wire = canned
    answers += [(200, b"{}"), (200, b'{"model_version_status": [{"state": "UNLOADING"}]}')]
    with pytest.raises(MalformedError, match="state of the model"):
        wire.is_coming(None, 5.0)
    assert not wire.is_coming(None, 5.0)


def test_connections_are_kept_for_the_next_request(front):
    wire = RestWire(parse_server(front.url("http", "toy")))
    for _ in range(3):
        wire.describe(None, 5.0)
    assert len(front._rest.connections) == 1
    wire.close()


def test_tensorflow_is_not_imported_for_it():
    code = (
        "import sys; import facegan.render.rest_wire; "
        "assert not {'tensorflow', 'grpc', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
