"""The page that goes with a served folder: its commands are run."""

import base64
import json
import re
import subprocess
import urllib.request

import numpy as np
import pytest

from facegan import image as image_lib
from facegan.export.serving import publish_bundle
from facegan.export.serving_readme import write_readme
from tests.domain_puppet import export_domain_puppet
from tests.serving_front import Models, ServingFront
from tests.toy_bundle import export_toy

SIZE = 32


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    bundle = export_domain_puppet(folder / "styled", size=SIZE)
    return publish_bundle(bundle, folder / "serving")


@pytest.fixture
def inputs(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    style = np.array([0.5, -0.5, 0.0], np.float32)
    (tmp_path / "source.png").write_bytes(image_lib.encode_picture(picture))
    (tmp_path / "style.json").write_text(json.dumps(style.tolist()))
    np.save(tmp_path / "style.npy", style)
    return image_lib.to_uint8(0.5 * (image_lib.to_float(picture) + style))


def blocks(served):
    text = (served.serving_dir / "README.md").read_text()
    return re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)


@pytest.fixture(scope="module")
def front(served):
    with ServingFront(Models(served.serving_dir)) as front:
        yield front


def test_the_grpc_client_runs_as_it_stands(served, front, inputs, tmp_path, monkeypatch):
    client = blocks(served)[2]
    assert len(client.splitlines()) <= 11
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(client.replace("localhost:8500", f"localhost:{front.grpc_port}"), scope)
    scope["channel"].close()
    made = image_lib.read_image(tmp_path / "image_out.png")
    assert np.abs(made.astype(int) - inputs).max() <= 1


def test_the_rest_request_is_answered(served, front, inputs, tmp_path):
    command = blocks(served)[1]
    # Of the command the shell's part is run, curl's is done here.
    subprocess.run(["bash", "-ec", f"curl() {{ cat; }}\n{command}"], cwd=tmp_path, check=True)
    body = (tmp_path / "answer.json").read_bytes()
    (url,) = re.findall(r"http://localhost:8501(\S+)", command)
    with urllib.request.urlopen(f"http://localhost:{front.rest_port}{url}", body) as answer:
        (prediction,) = json.load(answer)["predictions"]
    made = image_lib.decode_picture(base64.b64decode(prediction["b64"]))
    assert np.abs(made.astype(int) - inputs).max() <= 1


def test_the_server_is_started_with_what_is_in_the_folder(served):
    start = blocks(served)[0]
    for part in ("8500:8500", "8501:8501", "target=/models", "tensorflow/serving"):
        assert part in start
    named = re.findall(r"/models/([\w.]+)", start)
    assert named == ["models.config", "batching_parameters.txt"]
    assert all((served.serving_dir / name).is_file() for name in named)


def test_every_model_has_its_section(tmp_path):
    manifest, _ = export_toy(tmp_path / "1")
    text = write_readme({"anna": manifest, "ben": manifest})
    assert text.count("\n## ") == 2
    assert "`condition_bytes` (JPEG or PNG); gives `image_bytes` (PNG)" in text
    assert "is synthetic" in text and manifest.provenance.licence in text
    assert "multiples of" not in text
