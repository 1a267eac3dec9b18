import logging

import pytest

from facegan.errors import ConfigError, DataError
from facegan.preparation import beam_pipeline
from facegan.preparation.items import Item
from facegan.preparation.parts import PartFolder, cut_parts
from tests.slow_work import SlowWork


def test_flags_become_options():
    options = beam_pipeline.pipeline_options(["--runner=FlinkRunner", "--streaming"])
    assert options.get_all_options()["runner"] == "FlinkRunner"


@pytest.mark.parametrize("flag", ["runner=Flink", "-r", "--run ner=x", ""])
def test_what_is_no_flag_is_refused(flag):
    with pytest.raises(ConfigError, match="must look like"):
        beam_pipeline.pipeline_options([flag])


def test_parts_are_made_and_read_by_pipelines(tmp_path):
    import apache_beam as beam
    from apache_beam.testing.util import assert_that, equal_to

    folder = PartFolder(tmp_path / "w")
    parts = cut_parts({"train": [Item(f"i{n}", ("f",)) for n in range(5)]}, {}, 2)
    folder.plan(parts)
    names = [part.name for part in parts]
    options = beam_pipeline.pipeline_options(["--runner=DirectRunner"])
    beam_pipeline.make_parts(names, folder, SlowWork(), 60, {"options": options})
    assert folder.done() == set(names)
    with beam.Pipeline(options=options) as pipeline:
        keys = pipeline | beam_pipeline.read_parts(names, folder) | beam.Keys()
        assert_that(keys, equal_to([f"i{n}" for n in range(5)]))


def test_our_own_sentence_is_found_in_a_runners_error():
    text = "Traceback\nfacegan.errors.DataError: The disk is full. [while running 'Make']\nmore"
    with pytest.raises(DataError) as caught, beam_pipeline.clear_errors():
        raise RuntimeError(text)
    assert str(caught.value) == "The disk is full."
    with pytest.raises(RuntimeError, match="other"), beam_pipeline.clear_errors():
        raise RuntimeError("other")


def test_logging_is_as_before():
    logger = logging.getLogger("apache_beam")
    before = logger.level
    with beam_pipeline.quiet_beam():
        assert logger.level == logging.CRITICAL
    assert logger.level == before
