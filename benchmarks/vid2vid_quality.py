"""Quality of the main job: scores on a held-out part, and the identity of the rendered face.

Runs ``vid2vid`` with the last fifth of the style video kept out of training and prints, as JSON,
SSIM, PSNR and identity distance on that part, and the distance of the rendered face from the style
person.

Example:
  python -m benchmarks.vid2vid_quality --style anna.mp4 --content ben.mp4 --output out.mp4
"""

import json

from absl import app, flags

FLAGS = flags.FLAGS

flags.DEFINE_string("style", None, "Video of the person who is to be seen.", required=True)
flags.DEFINE_string("content", None, "Video of the person who speaks.", required=True)
flags.DEFINE_string("output", None, "The video to write.", required=True)
flags.DEFINE_integer("size", 128, "Height and width of what is learnt.")
flags.DEFINE_integer("steps", None, "Training steps (default: the preset's).")
flags.DEFINE_multi_string("set", [], "One value of the preset.")
flags.DEFINE_float("holdout", 0.2, "Last part of the style video that is kept out.")
flags.DEFINE_bool("retarget", True, "Bring landmarks into the style person's geometry.")


def main(argv: list[str]) -> None:
    """Runs the job and scores it."""
    del argv
    from facegan.jobs.evaluate import identity_to_person
    from facegan.jobs.vid2vid import Vid2VidConfig, vid2vid
    from facegan.progress import Progress

    result = vid2vid(
        Vid2VidConfig(
            style=FLAGS.style,
            content=FLAGS.content,
            output=FLAGS.output,
            size=FLAGS.size,
            steps=FLAGS.steps,
            overrides=tuple(FLAGS.set),
            holdout=FLAGS.holdout,
            retarget=FLAGS.retarget,
        ),
        progress=Progress,
    )
    result["identity_to_style"] = identity_to_person(result["output"], FLAGS.style)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    app.run(main)
