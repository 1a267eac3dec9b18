import pkgutil

from facegan.jobs.run import list_presets, load_config, make_recipe
from facegan.training import recipes


def test_every_recipe_fulfils_the_protocol():
    kinds = set()
    for preset in list_presets():
        config = load_config(preset)
        recipe = make_recipe(config)
        kinds.add(config.kind)
        assert recipe.stem == config.kind
        updated = [n for phase in recipe.phases for nets in phase.updates.values() for n in nets]
        assert set(updated) == {*recipe.optimizers, *recipe.tables}
        assert set(recipe.ema_nets) <= set(updated)
        assert recipe.serving().net in updated
        assert all(phase.every >= 1 for phase in recipe.phases)
    # Fine-tuning takes its config from the run that it starts from.
    kinds.add("talking_head_person")
    assert kinds == {module.name for module in pkgutil.iter_modules(recipes.__path__)}
