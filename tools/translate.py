#!/usr/bin/env python3
"""Turns pictures and videos into another domain with an exported StarGAN v2.

The style is drawn (--seed), or taken from a picture of the domain (--reference; several, or a
folder, give several). --input is a picture, a folder of pictures or a video. A picture becomes a
picture; with --grid, all pictures in all styles become one; with an --output that is a video, they
wander from style to style. Faces are cut out as those that were learnt from; --full_frame puts them
back into the picture, as is always done in videos, whose frames, size and sound are kept. A video
that was stopped or killed goes on when the same command is given again. --server names a TensorFlow
Serving that runs the model, instead of --bundle.

Example:
  tools/translate.py --bundle bundles/faces --input me.jpg --domain male --output out.png
  tools/translate.py --bundle bundles/faces --input photos --domain female --output grid.png \
      --reference a.jpg,b.jpg --grid
  tools/translate.py --bundle bundles/faces --input me.jpg --domain male --styles 5 --output out.mp4
  tools/translate.py --bundle bundles/faces --input talk.mp4 --domain male --output out.mp4
"""

if not __package__:  # run as a file of a checkout, which need not be installed
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    __package__ = "tools"

from absl import flags

from . import program

FLAGS = flags.FLAGS

flags.DEFINE_string("bundle", None, "Folder of the exported model.")
program.define_server_flags()
flags.DEFINE_string("input", None, "A picture, a folder of pictures, or a video.", required=True)
flags.DEFINE_string("domain", None, "Into which domain, by name.", required=True)
flags.DEFINE_string("output", None, "The file or folder to write.", required=True)
flags.DEFINE_list("reference", [], "Pictures, or folders of such, whose styles are taken.")
flags.DEFINE_integer("seed", 0, "The style that is drawn.", lower_bound=0)
flags.DEFINE_integer("styles", 1, "How many are drawn, from --seed on.", lower_bound=1)
flags.DEFINE_bool("grid", False, "One picture of all pictures in all styles.")
flags.DEFINE_bool("full_frame", None, "Put the face back into the whole picture or frame.")
flags.DEFINE_enum(
    "paste", "face", ["face", "square"], "What is put back: the face, or all that was made."
)
flags.DEFINE_bool("colour_match", True, "Give what is put back the colours around it.")
flags.DEFINE_enum(
    "deflicker", "motion", ["off", "guarded", "motion"], "How a video is steadied over time."
)
program.define_face_flags()
program.define_provenance_flags(" (videos only)")
flags.DEFINE_bool("resume", False, "Go on in a folder of pictures.")
flags.DEFINE_bool("overwrite", False, "Replace an output that is there.")


def main() -> dict:
    """Translates and returns what was written."""
    bundle = program.chosen_bundle()
    from facegan.jobs import translate as jobs
    from facegan.progress import Progress
    from facegan.video.deflicker import DeflickerConfig

    config = jobs.TranslateConfig(
        domain=FLAGS.domain,
        references=tuple(FLAGS.reference),
        styles=FLAGS.styles,
        seed=FLAGS.seed,
        grid=FLAGS.grid,
        full_frame=FLAGS.full_frame,
        paste=FLAGS.paste,
        colour_match=FLAGS.colour_match,
        deflicker=DeflickerConfig(method=FLAGS.deflicker),
        face=program.chosen_face(),
        detector=program.chosen_detector(),
        engine=program.chosen_engine(),
        provenance=FLAGS.provenance,
        visible_label=FLAGS.visible_label,
    )
    ways = {"resume": FLAGS.resume, "overwrite": FLAGS.overwrite}
    if FLAGS.dry_run:
        return jobs.plan_translate(bundle, FLAGS.input, FLAGS.output, config, **ways)
    return jobs.translate(bundle, FLAGS.input, FLAGS.output, config, progress=Progress, **ways)


def run() -> None:
    """Entry point of the console script."""
    program.run_program(main)


if __name__ == "__main__":
    run()
