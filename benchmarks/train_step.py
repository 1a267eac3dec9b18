"""Training steps a second of a preset, for each number format, with and without XLA.

Batches are made beforehand, so the figures are those of the step alone.

Example:
  python -m benchmarks.train_step --presets pix2pix_tiny,pix2pix_256
"""

import dataclasses
import json
import time

from absl import app, flags

FLAGS = flags.FLAGS

flags.DEFINE_list("presets", ["pix2pix_tiny"], "Presets to time.")
flags.DEFINE_list("precisions", ["float32", "mixed_bfloat16"], "Number formats.")
flags.DEFINE_list("xla", ["off", "on"], "Whether gradients are compiled by XLA.")
flags.DEFINE_integer("steps", 10, "Timed steps of each round.")
flags.DEFINE_integer("rounds", 3, "Rounds; all cases take turns in each.")


def main(argv: list[str]) -> None:
    """Times every case and prints a table and JSON."""
    del argv
    import numpy as np
    import tensorflow as tf

    from facegan.jobs.run import load_config, make_recipe
    from facegan.training.trainer import Trainer

    rng = np.random.default_rng(0)
    cases = {}
    for preset in FLAGS.presets:
        config = load_config(preset)
        size, count = config.conditioning.size, config.data.batch_size
        batch = {
            name: tf.constant(rng.uniform(-1, 1, (count, size, size, 3)), tf.float32)
            for name in ("condition", "image")
        }
        for precision in FLAGS.precisions:
            for xla in FLAGS.xla:
                train = dataclasses.replace(config.train, precision=precision, xla=xla)
                trainer = Trainer(make_recipe(config), train)
                start = time.monotonic()
                _run(trainer, batch, 2)
                first_s = time.monotonic() - start
                cases[preset, precision, xla] = (trainer, batch, count, first_s, [])
    for _ in range(FLAGS.rounds):
        for trainer, batch, _, _, times in cases.values():
            start = time.monotonic()
            _run(trainer, batch, FLAGS.steps)
            times.append((time.monotonic() - start) / FLAGS.steps)
    rows = []
    for (preset, precision, xla), (_, _, count, first_s, times) in cases.items():
        step_s = float(np.median(times))
        rows.append(
            {
                "preset": preset,
                "precision": precision,
                "xla": xla,
                "batch_size": count,
                "ms_per_step": round(step_s * 1e3, 1),
                "steps_per_second": round(1 / step_s, 2),
                "first_steps_s": round(first_s, 1),
            }
        )
        print(" | ".join(str(value) for value in rows[-1].values()))
    print(json.dumps(rows))


def _run(trainer, batch, steps):
    for _ in range(steps):
        terms = trainer.train_step(batch)
    float(next(iter(terms.values())))  # waits for the last step


if __name__ == "__main__":
    app.run(main)
