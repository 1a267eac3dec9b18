#!/usr/bin/env python3
"""Makes the person of one video say what another person says, with that person's voice.

Learns the face in --style from landmark drawings, then draws the landmarks of --content with it:
prepare, train, export and render in one command. A run that was stopped or killed goes on when the
same command is given again.

Example:
  tools/vid2vid.py --style anna.mp4 --content ben.mp4 --output anna_says_ben.mp4 --size 128
"""

if not __package__:  # run as a file of a checkout, which need not be installed
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    __package__ = "tools"

from absl import flags

from . import program

FLAGS = flags.FLAGS

program.define_video_job_flags("pix2pix_tiny")


def main() -> dict:
    """Does the whole job and returns what was written."""
    program.refuse_existing_file("output", FLAGS.output)
    program.check_videos([FLAGS.style, FLAGS.content])
    from facegan.jobs import vid2vid as jobs
    from facegan.jobs.video_job import plan_video_job
    from facegan.progress import Progress

    config = jobs.Vid2VidConfig(**program.chosen_video_job())
    if FLAGS.dry_run:
        return plan_video_job(config, overwrite=FLAGS.overwrite)
    return jobs.vid2vid(config, overwrite=FLAGS.overwrite, progress=Progress)


def run() -> None:
    """Entry point of the console script."""
    program.run_program(main)


if __name__ == "__main__":
    run()
