import json

import pytest
import tensorflow as tf

from facegan.errors import ConfigError
from facegan.training import devices


def test_one_device_needs_no_strategy(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert devices.make_strategy(1).num_replicas_in_sync == 1
    assert devices.worker_count() == 1
    assert devices.worker_index() == 0


def test_two_devices_are_mirrored(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    strategy = devices.make_strategy(2)
    assert isinstance(strategy, tf.distribute.MirroredStrategy)
    assert strategy.num_replicas_in_sync == 2


def test_too_many_devices_are_refused(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ConfigError, match="replicas is 99"):
        devices.make_strategy(99)


def test_tf_config_names_the_workers(monkeypatch):
    cluster = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    assert devices.worker_count() == 2
    assert devices.worker_index() == 1


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_broken_tf_config_is_refused(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ConfigError, match="TF_CONFIG"):
        devices.worker_count()


def test_precision_is_one_that_needs_no_loss_scaling():
    assert devices.suggest_precision() in ("float32", "mixed_bfloat16")
