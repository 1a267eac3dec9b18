#!/usr/bin/env python3
"""Shows the regions of a face over a video: skin, hair, eyes, lips ... in colour over the picture.

Example:
  tools/parse_video.py --video anna.mp4 --output anna_regions.mp4
  tools/parse_video.py --video anna.mp4 --output anna_regions.mp4 --parser bundles/parser/1
"""

if not __package__:  # run as a file of a checkout, which need not be installed
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    __package__ = "tools"

from absl import flags

from . import program

FLAGS = flags.FLAGS

flags.DEFINE_string("video", None, "The clip whose face is parsed.", required=True)
flags.DEFINE_string("output", None, "The video to write: .mp4, .mov, .m4v, .mkv.", required=True)
flags.DEFINE_integer("size", 256, "Height and width of the overlay, a power of two.")
flags.DEFINE_float("opacity", 0.5, "Of the colours over the picture.", 0.0, 1.0)
flags.DEFINE_string("labels_dir", None, "Also write the maps there, a PNG of ids a frame.")
program.define_parser_flag()
program.define_steadying_flags()
program.define_face_flags()
flags.DEFINE_bool("overwrite", False, "Replace an output that is there.")


def main() -> dict:
    """Parses and returns what was found."""
    program.refuse_existing_file("output", FLAGS.output)
    program.check_videos([FLAGS.video])
    from facegan.config import encode
    from facegan.jobs import parse as jobs
    from facegan.progress import Progress

    config = jobs.ParseConfig(
        parser=program.chosen_parser(),
        labels=program.chosen_label_deflicker(),
        rules=FLAGS.rules,
        size=FLAGS.size,
        opacity=FLAGS.opacity,
        face=program.chosen_face(),
        detector=program.chosen_detector(),
    )
    if FLAGS.dry_run:
        return {"video": FLAGS.video, "output": FLAGS.output, "config": encode(config)}
    return jobs.parse_video(
        FLAGS.video,
        FLAGS.output,
        config,
        labels_dir=FLAGS.labels_dir,
        overwrite=FLAGS.overwrite,
        progress=Progress,
    )


def run() -> None:
    """Entry point of the console script."""
    program.run_program(main)


if __name__ == "__main__":
    run()
