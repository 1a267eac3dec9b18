import hashlib
import json

import pytest

from facegan.bundle import Provenance
from facegan.config import write_json
from facegan.errors import ConfigError
from facegan.jobs.provenance import read_provenance, write_provenance


def test_a_run_folder_may_say_where_its_weights_come_from(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    digest = hashlib.sha256(b"{}").hexdigest()
    assert read_provenance(tmp_path) == Provenance(config_sha256=digest)
    write_json(tmp_path / "provenance.json", {"license": "x"})
    with pytest.raises(ConfigError, match="Did you mean 'licence'"):
        read_provenance(tmp_path)
    (tmp_path / "provenance.json").write_text("[]")
    with pytest.raises(ConfigError, match="provenance.json must be an object"):
        read_provenance(tmp_path)


def test_a_licence_goes_with_the_weights(tmp_path):
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(name))
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    write_provenance(first, preset="pix2pix_256", licence="for research only")
    write_provenance(second, preset="pix2pix_tiny", started_from=first)
    write_provenance(third, started_from=second)
    for folder, preset in (
        (first, "pix2pix_256"),
        (second, "pix2pix_tiny"),
        (third, "pix2pix_tiny"),
    ):
        found = read_provenance(folder)
        assert (found.licence, found.preset) == ("for research only", preset)
        digest = hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()
        assert found.config_sha256 == digest


def test_nothing_is_written_where_nothing_is_known(tmp_path):
    write_provenance(tmp_path)
    assert list(tmp_path.iterdir()) == []
