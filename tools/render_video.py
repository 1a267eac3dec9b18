#!/usr/bin/env python3
"""Renders a video with an exported bundle, keeping its frames, time stamps and sound.

The bundle runs here, or on a TensorFlow Serving that --server names; its address is all that is
needed then. With a --bundle beside it, both have to be the same model.

Regions, their parser, rules and background matter to bundles that are shown the regions of a face.
A render that was stopped or killed goes on when the same command is given again.

Example:
  tools/render_video.py --bundle bundles/anna --video talk.mp4 --output anna_talks.mp4 --compare
  tools/render_video.py --bundle bundles/anna --video talk.mp4 --output out.mp4 --full_frame
  tools/render_video.py --server grpc://localhost:8500/anna --video talk.mp4 --output out.mp4
"""

if not __package__:  # run as a file of a checkout, which need not be installed
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    __package__ = "tools"

from absl import flags

from . import program

FLAGS = flags.FLAGS

flags.DEFINE_string("bundle", None, "Folder of the exported bundle.")
program.define_server_flags()
flags.DEFINE_string("video", None, "The clip whose face is taken.", required=True)
flags.DEFINE_string("output", None, "The video to write: .mp4, .mov, .m4v, .mkv.", required=True)
flags.DEFINE_bool("full_frame", False, "Paste the face back into the whole frame.")
flags.DEFINE_enum(
    "missing_face",
    "auto",
    ["auto", "hold", "copy", "blank"],
    "What a frame without a face shows: the last face, the source, or black; auto holds the face, "
    "and copies the source where the whole frame is shown.",
)
program.define_face_flags()
program.define_retarget_flag()
flags.DEFINE_enum(
    "deflicker", "motion", ["off", "guarded", "motion"], "How the result is steadied over time."
)
program.define_region_flags()
flags.DEFINE_string("style_image", None, "Picture whose style is taken, where a model takes one.")
program.define_provenance_flags("")
flags.DEFINE_multi_string("set", [], "Any render setting, as crf=15; may be given often.")
flags.DEFINE_bool("compare", False, "Also write source and result side by side.")
flags.DEFINE_string("work_dir", None, "Where unfinished work is kept (default: beside output).")
flags.DEFINE_bool("overwrite", False, "Replace an output that is there.")


def main() -> dict:
    """Renders and returns the summary."""
    bundle = program.chosen_bundle()
    program.refuse_existing_file("output", FLAGS.output)
    from facegan.config import set_by_name
    from facegan.face.retarget import RetargetConfig
    from facegan.jobs import render as jobs
    from facegan.progress import Progress
    from facegan.render.pipeline import RenderConfig
    from facegan.video.deflicker import DeflickerConfig

    config = RenderConfig(
        output="full_frame" if FLAGS.full_frame else "generated",
        missing_face=FLAGS.missing_face,
        face=program.chosen_face(),
        detector=program.chosen_detector(),
        retarget=RetargetConfig(enabled=FLAGS.retarget),
        parser=program.chosen_parser() if FLAGS.parser else None,
        labels=program.chosen_label_deflicker(),
        rules=FLAGS.rules,
        background=program.chosen_colour("background", default=None),
        style_image=FLAGS.style_image,
        deflicker=DeflickerConfig(method=FLAGS.deflicker),
        engine=program.chosen_engine(),
        provenance=FLAGS.provenance,
        visible_label=FLAGS.visible_label,
    )
    config = set_by_name(config, FLAGS.set)
    if FLAGS.dry_run:
        return jobs.plan_render(
            bundle,
            FLAGS.video,
            FLAGS.output,
            config,
            compare=FLAGS.compare,
            overwrite=FLAGS.overwrite,
        )
    return jobs.render_job(
        bundle,
        FLAGS.video,
        FLAGS.output,
        config,
        compare=FLAGS.compare,
        work_dir=FLAGS.work_dir,
        overwrite=FLAGS.overwrite,
        progress=Progress,
    )


def run() -> None:
    """Entry point of the console script."""
    program.run_program(main)


if __name__ == "__main__":
    run()
