#!/usr/bin/env python3
"""Scores a model on held-out pictures, or rendered videos on their flicker.

With --bundle and --data_dir: likeness (SSIM, PSNR, identity); for models of label maps also how
well the regions of the generated pictures are those asked for; for face parsers how well their maps
are the dataset's. With --source and --videos: how much renders of a source flicker, side by side.

Example:
  tools/evaluate.py --bundle bundles/anna/1 --data_dir data/anna --report scores.json
  tools/evaluate.py --source ben.mp4 --videos raw.mp4,steady.mp4 --page flicker.html
"""

if not __package__:  # run as a file of a checkout, which need not be installed
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    __package__ = "tools"

from typing import Any

from absl import flags

from . import program

FLAGS = flags.FLAGS

flags.DEFINE_string("bundle", None, "Folder of the exported model.")
flags.DEFINE_string("data_dir", None, "Folder of its dataset.")
flags.DEFINE_string("split", "test", "Which part of the dataset.")
flags.DEFINE_string("source", None, "In their place: the video that the --videos follow.")
flags.DEFINE_list("videos", None, "Renders of it.")
program.define_parser_flag()
program.define_face_flags()
flags.DEFINE_string("page", None, "HTML page with plots to write.")
flags.DEFINE_string("report", None, "JSON file to write the result to, too.")
flags.DEFINE_bool("overwrite", False, "Replace files that are there.")


def main() -> dict[str, Any]:
    """Scores and returns the figures."""
    program.refuse_both("bundle", "source")
    for flag in ("page", "report"):
        if FLAGS[flag].value:
            program.refuse_existing_file(flag, FLAGS[flag].value)
    if FLAGS.source is not None:
        program.require_flags("videos")
        program.check_videos([FLAGS.source, *FLAGS.videos])
    else:
        program.require_flags("bundle", "data_dir")
    if FLAGS.dry_run:
        names = ("bundle", "data_dir", "split", "source", "videos", "page", "report")
        return {name: FLAGS[name].value for name in names}
    from facegan.config import write_json

    result = _score_model() if FLAGS.source is None else _score_videos()
    if FLAGS.report:
        write_json(FLAGS.report, result)
    return result


def _score_model() -> dict[str, Any]:
    from facegan.jobs.evaluate import evaluate_holdout, write_scores_page
    from facegan.jobs.run import find_dataset

    parser = program.chosen_parser() if FLAGS.parser else None
    scores = evaluate_holdout(FLAGS.bundle, find_dataset(FLAGS.data_dir), FLAGS.split, parser)
    if FLAGS.page:
        write_scores_page(FLAGS.page, FLAGS.bundle, scores)
    return scores


def _score_videos() -> dict[str, Any]:
    from facegan.jobs.flicker import FlickerSource, report_flicker
    from facegan.progress import Progress
    from facegan.render.engine import load_engine

    source = FlickerSource(
        video=FLAGS.source,
        face=program.chosen_face(),
        detector=program.chosen_detector(),
        parser=program.chosen_parser(),
    )
    outputs = {video: video for video in FLAGS.videos}
    return report_flicker(source, outputs, FLAGS.page, load_engine=load_engine, progress=Progress)


def run() -> None:
    """Entry point of the console script."""
    program.run_program(main)


if __name__ == "__main__":
    run()
