"""The smallest recipe with everything the trainer has to carry: two nets, noise, a statistic."""

import keras
from keras import ops

from facegan.bundle import TensorSpec
from facegan.layers.randomness import fold_in
from facegan.training.ema import EmaConfig
from facegan.training.optimizers import AdamConfig
from facegan.training.recipe import Phase, PhaseResult, Serving
from facegan.training.schedules import ScheduleConfig

ADAM = AdamConfig(learning_rate=0.01, schedule=ScheduleConfig(shape="linear", hold=0.2))


class ToyRecipe:
    stem = "toy"
    group = 1
    ema = EmaConfig(decay=0.9)
    ema_nets = ("generator",)
    tables = {}

    def __init__(self, noise=0.0, norm=False, every=1):
        self.noise, self.norm = noise, norm
        self.phases = (
            Phase(name="main", updates={"G": ("generator",), "D": ("critic",)}),
            Phase(name="lazy", updates={"D": ("critic",)}, every=every),
        )
        self.optimizers = {"generator": ADAM, "critic": ADAM}
        self.statistics = {"mean_loss": 0.0}

    def build_nets(self, precision):
        init = keras.initializers.RandomNormal(0.0, 0.1, seed=1)
        layers = [keras.layers.Dense(4, kernel_initializer=init, name="hidden", dtype=precision)]
        if self.norm:
            layers.append(keras.layers.BatchNormalization(name="norm", dtype=precision))
        layers.append(keras.layers.Dense(3, kernel_initializer=init, name="out", dtype=precision))
        generator = keras.Sequential(layers, name="generator")
        critic = keras.Sequential(
            [keras.layers.Dense(1, kernel_initializer=init, name="score", dtype=precision)],
            name="critic",
        )
        generator.build((None, 2))
        critic.build((None, 3))
        return {"generator": generator, "critic": critic}

    def prepare(self, precision):
        pass

    def compute(self, phase, nets, batch, seed, step, statistics):
        fake = ops.cast(nets["generator"](batch["x"], training=True), "float32")
        if self.noise:
            draw = ops.cast(fold_in(seed, 0)[1] % 97, "float32") / 97.0
            fake = fake + self.noise * draw
        score = ops.cast(nets["critic"](fake), "float32")
        generator_loss = ops.mean(ops.square(fake - batch["y"])) - 0.01 * ops.mean(score)
        critic_loss = ops.mean(ops.square(ops.cast(nets["critic"](batch["y"]), "float32") - 1.0))
        mean = 0.9 * statistics["mean_loss"] + 0.1 * generator_loss
        losses = {"G": generator_loss, "D": critic_loss}
        if phase == "lazy":
            losses = {"D": ops.mean(ops.square(score))}
        return PhaseResult(
            losses=losses, terms={f"{phase}/mse": generator_loss}, statistics={"mean_loss": mean}
        )

    def preview(self, nets, batch):
        picture = ops.reshape(nets["generator"](batch["x"]), (-1, 1, 1, 3))
        return [ops.tile(picture, (1, 8, 8, 1))]

    def serving(self):
        spec = TensorSpec(name="x", shape=(None, 2), value_range=None)
        return Serving(net="generator", inputs=(spec,), outputs=(spec,))
