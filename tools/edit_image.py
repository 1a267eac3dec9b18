#!/usr/bin/env python3
r"""Edits a face: by parts of another with a StyleGAN2, by a map of regions with a mask_pix2pix.

With a StyleGAN2, --target is a photograph, a video, or seed:3 for a face that the model draws;
--reference likewise, but no video. A photograph is projected: the style is looked for of which the
model paints it, which takes minutes and is kept in --work_dir, so that the next edit of it takes
seconds; so is what the model's channels mean, which is found out at the first edit; a part that is
not told apart then may be with more --clusters. What the edit changes goes back into the
photograph. In a video every frame is projected, with the same noise, beginning at the style of the
frame before. With --grid, one picture shows every part. Without a reference, --output is what the
model paints of the target (a picture) or its styles (.npz, for tools/generate.py --w).

With a mask_pix2pix, --target is a photograph, which is painted anew from the map of its regions:
from that of --reference or a --labels picture, with regions moved, grown and recoloured, in this
order. --write_map writes the map itself, to be painted over and given as --labels; --grid shows the
map, its reconstruction, the new map and what that gives, in a row for each reference.

Example:
  tools/edit_image.py --bundle bundles/faces --target a.jpg --reference b.jpg --parts eyes mouth \
      --output out.png
  tools/edit_image.py --bundle bundles/faces --target a.jpg --reference b.jpg c.jpg --grid \
      --output grid.png
  tools/edit_image.py --bundle bundles/faces --target talk.mp4 --reference b.jpg --parts all \
      --output out.mp4
  tools/edit_image.py --bundle bundles/masks --target a.jpg --recolour hair=#804020 \
      --grow mouth=1.2 --move nose=0,0.02 --output out.png
  tools/edit_image.py --bundle bundles/masks --target a.jpg --reference b.jpg c.jpg --grid \
      --output grid.png
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
flags.DEFINE_list("reference", [], "The face whose parts, or map, are taken; several for a grid.")
flags.DEFINE_list("parts", [], "What is taken, as eyes mouth; all takes every part.")
flags.DEFINE_string("output", None, "The file to write.", required=True)
flags.DEFINE_bool("grid", False, "One picture of the faces, or maps, and of each edit.")
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
flags.DEFINE_multi_string(
    "move", [], "Maps: a region to the right and down, as mouth=0.05,-0.02 of the side; often."
)
flags.DEFINE_multi_string(
    "grow", [], "Maps: a region by a factor from 0.2 to 5, as mouth=1.2; may be given often."
)
flags.DEFINE_multi_string(
    "recolour", [], "Maps: a region's new colour, as hair=#804020; may be given often."
)
flags.DEFINE_string("labels", None, "Maps: a picture of the new map, as --write_map writes it.")
flags.DEFINE_string(
    "labels_schema", None, "Maps: what its ids or colours mean, as celebamask19 (default: model's)."
)
flags.DEFINE_bool("write_map", False, "Maps: write the map, a .png, instead of a face.")
program.define_parser_flag()
flags.DEFINE_bool("overwrite", False, "Replace an output that is there.")

# Flags that take several words.
_LISTS = ("parts", "reference")
# Flags that only one kind of bundle has a use for.
_OF_STYLES = (
    *("parts", "strength", "epsilon", "rho", "space", "steps", "frame_steps", "perceptual_net"),
    *("deflicker", "face", "catalogue", "clusters", "work_dir"),
)
_OF_MAPS = ("move", "grow", "recolour", "labels", "labels_schema", "write_map", "parser")


def main() -> dict:
    """Edits and returns what was written."""
    from facegan.jobs.edit_masks import paints_maps

    if paints_maps(FLAGS.bundle):
        program.refuse_given(*_OF_STYLES, why="is for a bundle of stylegan2")
        return _edit_masks()
    program.refuse_given(*_OF_MAPS, why="is for a bundle of mask_pix2pix")
    return _edit_styles()


def _edit_masks() -> dict:
    from facegan.jobs import edit_masks as jobs
    from facegan.progress import Progress

    if FLAGS.grid or FLAGS.write_map:
        why = "is for what goes back into a photograph, and none is written"
        program.refuse_given("full_frame", "colour_match", why=why)
    config = jobs.MaskEditConfig(
        **jobs.read_region_edits(move=FLAGS.move, grow=FLAGS.grow, recolour=FLAGS.recolour),
        labels=FLAGS.labels,
        labels_schema=FLAGS.labels_schema,
        grid=FLAGS.grid,
        write_map=FLAGS.write_map,
        full_frame=FLAGS.full_frame,
        paste=FLAGS.paste,
        colour_match=FLAGS.colour_match,
        parser=program.chosen_parser() if FLAGS.parser else None,
        detector=program.chosen_detector(),
    )
    given = (FLAGS.bundle, FLAGS.target, FLAGS.output, config)
    places = {"references": FLAGS.reference, "overwrite": FLAGS.overwrite}
    if FLAGS.dry_run:
        return jobs.plan_mask_edit(*given, **places)
    return jobs.edit_masks(*given, **places, progress=Progress)


def _edit_styles() -> dict:
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
