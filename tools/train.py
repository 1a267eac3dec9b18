#!/usr/bin/env python3
"""Trains or fine-tunes a model on a prepared dataset.

The run folder keeps the settled config, checkpoints, logs and sample pictures. A run that was
stopped or killed goes on exactly where it was with --resume. With TF_CONFIG set, the same command
on every machine trains on all of them.

Example:
  tools/train.py --preset pix2pix_tiny --data_dir data/anna --run_dir runs/anna
  tools/train.py --run_dir runs/anna --data_dir data/anna --resume
"""

if not __package__:  # run as a file of a checkout, which need not be installed
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    __package__ = "tools"

from absl import flags

from . import program

FLAGS = flags.FLAGS

flags.DEFINE_string("preset", None, "Name of a preset; tools/train.py --list_presets names them.")
flags.DEFINE_string("config", None, "A JSON file in place of a preset.")
flags.DEFINE_multi_string("set", [], "One value of it, as train.steps=500; may be given often.")
flags.DEFINE_string("data_dir", None, "Folder of the dataset that tools/build_dataset.py built.")
flags.DEFINE_string("run_dir", None, "Folder of the run.")
flags.DEFINE_string("init_from", None, "A run folder whose weights this run starts from.")
flags.DEFINE_bool("resume", False, "Go on with the run that is in the folder.")
flags.DEFINE_bool("overwrite", False, "Empty a run folder that is there.")
flags.DEFINE_bool("list_presets", False, "Name the presets and end.")


def main() -> dict:
    """Trains and returns the run's summary."""
    if FLAGS.list_presets:
        from facegan.jobs.run import list_presets

        return {"presets": list_presets()}
    program.require_flags("data_dir", "run_dir")
    program.refuse_both("resume", "overwrite")
    program.refuse_both("preset", "config")
    chosen = FLAGS.preset or FLAGS.config
    if not chosen and (not FLAGS.resume or FLAGS.set):
        program.require_flags("preset")
    from facegan.jobs import run as jobs
    from facegan.progress import Progress

    config = jobs.load_config(FLAGS.preset, FLAGS.config, FLAGS.set) if chosen else None
    if FLAGS.dry_run:
        return jobs.describe_run(config or jobs.read_run(FLAGS.run_dir))
    return jobs.train_run(
        config,
        data_dir=FLAGS.data_dir,
        run_dir=FLAGS.run_dir,
        resume=FLAGS.resume,
        overwrite=FLAGS.overwrite,
        init_from=FLAGS.init_from,
        preset=FLAGS.preset,
        progress=Progress,
    )


def run() -> None:
    """Entry point of the console script."""
    program.run_program(main)


if __name__ == "__main__":
    run()
