#!/usr/bin/env python3
r"""Gives a face the eyes, the nose, the mouth, or all parts of another, with an exported StyleGAN2.

--target is a photograph, a video, or seed:3 for a face that the model draws; --reference likewise,
but no video. A photograph is projected: the style is looked for of which the model paints it, which
takes minutes and is kept in --work_dir, so that the next edit of it takes seconds; so is what the
model's channels mean, which is found out at the first edit; a part that is not told apart then may
be with more --clusters. What the edit changes goes back into the photograph. In a video every frame
is projected, with the same noise, beginning at the style of the frame before. With --grid, one
picture shows every part. Without a reference, --output is what the model paints of the target (a
picture) or its styles (.npz, for tools/generate.py --w).

Example:
  tools/edit_image.py --bundle bundles/faces --target a.jpg --reference b.jpg --parts eyes mouth \
      --output out.png
  tools/edit_image.py --bundle bundles/faces --target a.jpg --reference b.jpg c.jpg --grid \
      --output grid.png
  tools/edit_image.py --bundle bundles/faces --target talk.mp4 --reference b.jpg --parts all \
      --output out.mp4
"""

import sys

if not __package__:  # run as a file of a checkout, which need not be installed
    import pathlib

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    __package__ = "tools"

from absl import flags

from . import program

FLAGS = flags.FLAGS

flags.DEFINE_string("bundle", None, "Folder of the exported model.", required=True)
flags.DEFINE_string("target", None, "The face that is changed.", required=True)
flags.DEFINE_list("reference", [], "The face whose parts are taken; several for a grid.")
flags.DEFINE_list("parts", [], "What is taken, as eyes mouth; all takes every part.")
flags.DEFINE_string("output", None, "The file to write.", required=True)
flags.DEFINE_bool("grid", False, "One picture of both faces and of each part's edit.")
flags.DEFINE_float("strength", 1.0, "How far: 0 changes nothing, above 1 exaggerates.")
flags.DEFINE_float("epsilon", None, "How much may change elsewhere; more changes more.")
flags.DEFINE_float("rho", None, "Channels that belong to the part less than this are left.")
flags.DEFINE_enum("space", "w+", ["w", "w+"], "Styles of photographs: one, or one for each layer.")
flags.DEFINE_integer("steps", 1000, "Steps of the search for them.", lower_bound=1)
flags.DEFINE_integer("frame_steps", 60, "Steps for each frame of a video.", lower_bound=1)
flags.DEFINE_string(
    "perceptual_net", "imagenet", "What compares pictures: imagenet, random, or a weights file."
)
flags.DEFINE_bool("full_frame", True, "Put the edit back into the whole photograph or frame.")
flags.DEFINE_enum(
    "paste",
    None,
    ["change", "face", "square"],
    "What is put back: what changed (the default), or all that is painted of the face or square.",
)
flags.DEFINE_bool("colour_match", True, "Give what is put back the colours around it.")
flags.DEFINE_enum(
    "deflicker", "motion", ["off", "guarded", "motion"], "How a video is steadied over time."
)
program.define_face_flags()
flags.DEFINE_string("catalogue", None, "What the channels mean (default: made in --work_dir).")
flags.DEFINE_integer("clusters", None, "Of the one that is made; more may tell more parts apart.")
flags.DEFINE_string(
    "work_dir", None, "Where styles and catalogue are kept (default: <bundle>_editing)."
)
flags.DEFINE_bool("overwrite", False, "Replace an output that is there.")

# Flags that take several words.
_LISTS = ("parts", "reference")


def main() -> dict:
    """Edits and returns what was written."""
    from facegan.jobs import edit_image as jobs
    from facegan.jobs.catalogue import CatalogueConfig
    from facegan.models.local_editing import EditConfig
    from facegan.progress import Progress
    from facegan.training.projector import ProjectionConfig
    from facegan.video.deflicker import DeflickerConfig

    if not FLAGS.reference:
        why = "is for edits, and no --reference is given"
        program.refuse_given("strength", "epsilon", "rho", "colour_match", why=why)
    if not jobs.is_video(FLAGS.target):
        program.refuse_given("frame_steps", "deflicker", why="is for a video")
    if FLAGS.catalogue is not None or not FLAGS.reference:
        program.refuse_given("clusters", why="is for a catalogue that is made, and none is")
    fit = CatalogueConfig()
    if FLAGS.clusters is not None:
        fit = CatalogueConfig(clusters=FLAGS.clusters)
    chosen = {name: FLAGS[name].value for name in ("rho", "epsilon")}
    limits = {name: value for name, value in chosen.items() if value is not None}
    config = jobs.EditImageConfig(
        parts=tuple(FLAGS.parts),
        grid=FLAGS.grid,
        edit=EditConfig(strength=FLAGS.strength, **limits),
        fit=fit,
        projection=ProjectionConfig(space=FLAGS.space, steps=FLAGS.steps),
        frame_steps=FLAGS.frame_steps,
        perceptual_net=FLAGS.perceptual_net,
        full_frame=FLAGS.full_frame,
        paste=FLAGS.paste,
        colour_match=FLAGS.colour_match,
        deflicker=DeflickerConfig(method=FLAGS.deflicker),
        face=program.chosen_face(),
        detector=program.chosen_detector(),
    )
    given = (FLAGS.bundle, FLAGS.target, FLAGS.reference, FLAGS.output, config)
    places = {
        "catalogue": FLAGS.catalogue,
        "work_dir": FLAGS.work_dir,
        "overwrite": FLAGS.overwrite,
    }
    if FLAGS.dry_run:
        return jobs.plan_edit(*given, **places)
    return jobs.edit_image(*given, **places, progress=Progress)


def _join_words(arguments: list[str]) -> list[str]:
    """Writes "--parts eyes mouth" as "--parts=eyes,mouth": absl gives a flag one word only."""
    joined: list[str] = []
    takes_words = False
    for word in arguments:
        if word.startswith("-"):
            takes_words = word.lstrip("-").partition("=")[0] in _LISTS
            joined.append(word)
        elif takes_words:
            joined[-1] += ("," if "=" in joined[-1] else "=") + word
        else:
            joined.append(word)
    return joined


def run() -> None:
    """Entry point of the console script."""
    sys.argv[1:] = _join_words(sys.argv[1:])
    program.run_program(main)


if __name__ == "__main__":
    run()
