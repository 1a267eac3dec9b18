"""Two worker processes joined by TF_CONFIG train what one process trains."""

import json
import os
import socket
import subprocess
import sys

import numpy as np

from facegan.jobs.run import encode_run
from tests.integration.test_resume import CHILD, tensors


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]
    finally:
        for item in sockets:
            item.close()


def test_two_workers_give_the_weights_of_one(dataset, tiny_run, tmp_path, repo_dir):
    config = tiny_run("train.steps=3")
    (tmp_path / "config.json").write_text(json.dumps(encode_run(config)))
    base = {**os.environ, "PYTHONPATH": str(repo_dir), "TF_CPP_MIN_LOG_LEVEL": "3"}
    base.pop("TF_CONFIG", None)
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]

    def start(run_dir, index=None):
        environment = dict(base)
        if index is not None:
            environment["TF_CONFIG"] = json.dumps(
                {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
            )
        arguments = [str(tmp_path / "config.json"), dataset["dataset_dir"], str(run_dir)]
        return subprocess.Popen([sys.executable, "-c", CHILD, *arguments], env=environment)

    assert start(tmp_path / "one").wait(timeout=300) == 0
    processes = [start(tmp_path / "two", index) for index in (0, 1)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    (step_one, one), (step_two, two) = tensors(tmp_path / "one"), tensors(tmp_path / "two")
    assert step_one == step_two == 3
    assert one.keys() == two.keys()
    for name in one:
        # Sums over two machines round otherwise than over one batch, and Adam divides by roots of
        # tiny second moments.
        np.testing.assert_allclose(one[name], two[name], atol=3e-4, err_msg=name)
