#!/usr/bin/env python3
"""Makes a face video look like another person's, by the regions of the face.

Finds skin, hair, eyes, lips ... in every frame, learns from --style what each looks like there, and
draws the regions of --content so, steadied against flicker, with its sound: prepare, train, export
and render in one command. A run that was stopped or killed goes on when the same command is given
again.

Example:
  tools/spade_video.py --style anna.mp4 --content ben.mp4 --output ben_as_anna.mp4 --size 128
"""

if not __package__:  # run as a file of a checkout, which need not be installed
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    __package__ = "tools"

from absl import flags

from . import program

FLAGS = flags.FLAGS

program.define_video_job_flags("spade_tiny")
program.define_region_flags()
flags.DEFINE_enum(
    "deflicker", "motion", ["off", "guarded", "motion"], "How the pictures are steadied."
)
flags.DEFINE_string("report", None, "Page about the flicker before and after: report.html.")


def main() -> dict:
    """Does the whole job and returns what was written."""
    program.refuse_existing_file("output", FLAGS.output)
    program.check_videos([FLAGS.style, FLAGS.content])
    from facegan.jobs import spade_video as jobs
    from facegan.progress import Progress

    background = program.chosen_colour("background", default=jobs.SNOW)
    config = jobs.SpadeVideoConfig(
        **program.chosen_video_job(),
        parser=program.chosen_parser(),
        background=background,
        labels=program.chosen_label_deflicker(),
        rules=FLAGS.rules,
        deflicker=FLAGS.deflicker,
        report=FLAGS.report,
    )
    if FLAGS.dry_run:
        return jobs.plan_spade_video(config, overwrite=FLAGS.overwrite)
    return jobs.spade_video(config, overwrite=FLAGS.overwrite, progress=Progress)


def run() -> None:
    """Entry point of the console script."""
    program.run_program(main)


if __name__ == "__main__":
    run()
