from pathlib import Path

import pytest
import yaml

from vla_ros.data_types import ConfigError
from vla_ros.policies import policy_class
from vla_ros.training import load_recipe

CONFIG = Path(__file__).parents[2] / "config"


@pytest.mark.parametrize("path", sorted((CONFIG / "training").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_recipes_parse(path):
    recipe = load_recipe(path)
    assert recipe.inputs
    policy_class(recipe.policy.name)
    assert recipe.policy.options is None  # the file's content stands in the overrides


def test_shipped_bc_options_are_the_published_defaults():
    from vla_ros.policies.bc import BcConfig

    fields = BcConfig.__dataclass_fields__
    for name, value in yaml.safe_load((CONFIG / "policies/bc_cnn.yaml").read_text()).items():
        default = fields[name].default
        assert value == (list(default) if isinstance(default, tuple) else default), name


def test_overrides_replace_single_fields(make_recipe):
    recipe = load_recipe(
        make_recipe(), ["optimiser.lr=3e-4", "policy.overrides.dropout=0.0", "inputs=[observation.state]"]
    )
    assert recipe.optimiser.lr == 3e-4
    assert recipe.policy.overrides["dropout"] == 0.0
    assert recipe.policy.overrides["hidden_dims"] == [16]
    assert recipe.inputs == ("observation.state",)


def test_options_file_lies_beside_the_recipe_and_overrides_win(make_recipe, tmp_path):
    (tmp_path / "options.yaml").write_text("dropout: 0.5\npooling: average\n")
    path = make_recipe(policy={"name": "bc", "options": "options.yaml", "overrides": {"dropout": 0.0}})
    assert load_recipe(path).policy.overrides == {"dropout": 0.0, "pooling": "average"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"batchsize": 8}, r"recipe.yaml: batchsize is not a field here.*Did you mean 'batch_size'\?"),
        ({"optimiser": {"lrr": 1.0}}, r"optimiser.lrr is not a field here.*Did you mean 'lr'"),
        ({"optimiser": {"name": "adm"}}, r"optimiser.name 'adm' is not one of adam, adamw"),
        ({"optimiser": {"lr": 0.0}}, r"optimiser lr=0 must be above 0"),
        ({"optimiser": {"lr": "fast"}}, r"optimiser.lr expected float, got 'fast'"),
        ({"optimiser": {"betas": [0.9]}}, r"optimiser.betas expected 2 entries"),
        ({"epochs": None}, "give either epochs or steps"),
        ({"steps": 5}, "give either epochs or steps"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"inputs": ["a", "a"]}, "one or more different feature keys"),
        ({"dataset": None}, "dataset is required and missing"),
        ({"dataset": {"root": "x", "validation_fraction": 1.0}}, "dataset validation_fraction=1 must be at least 0"),
        (
            {"dataset": {"root": "x", "validation_fraction": 0.0}, "early_stop_epochs": 2},
            "early_stop_epochs needs validation",
        ),
        (
            {"dataset": {"root": "x", "validation_fraction": 0.0}, "schedule": {"name": "plateau"}},
            "'plateau' needs validation",
        ),
        ({"schedule": {"name": "one_cycl"}}, "Did you mean 'one_cycle'"),
        ({"normalisation": {"vectors": "mean"}}, r"normalisation.vectors 'mean' is not one of"),
        ({"policy": {"name": "bc", "options": "none.yaml"}}, r"none.yaml: no such file"),
        ({"precision": "fp16"}, "precision 'fp16' is not one of fp32, bf16"),
        ({"ema_decay": 1.5}, "ema_decay=1.5 must be between 0 and 1"),
    ],
)
def test_bad_recipe_is_one_sentence(make_recipe, changes, sentence):
    with pytest.raises(ConfigError, match=sentence) as raised:
        load_recipe(make_recipe(**changes))
    assert "\n" not in str(raised.value)


def test_missing_recipe_names_the_nearest(make_recipe, tmp_path):
    make_recipe()
    with pytest.raises(ConfigError, match=r"recpie.yaml: no such file.*Did you mean 'recipe.yaml'"):
        load_recipe(tmp_path / "recpie.yaml")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("epochs", "must have the form a.b=value"),
        ("=3", "must have the form a.b=value"),
        ("epochs.more=3", "epochs has no fields"),
        ("epochs.more.still=3", "epochs has no fields"),
        ("optimiser.lr=[", "the value is not YAML"),
        ("optimizer.lr=1e-3", r"optimizer is not a field here.*Did you mean 'optimiser'"),
    ],
)
def test_bad_override_is_one_sentence(make_recipe, override, sentence):
    with pytest.raises(ConfigError, match=sentence):
        load_recipe(make_recipe(), [override])


def test_an_extended_recipe_gives_every_field_that_is_not_given_again(make_recipe, tmp_path):
    base = make_recipe(policy={"name": "bc", "options": "options.yaml", "overrides": {"dropout": 0.0}}, epochs=3)
    (tmp_path / "options.yaml").write_text("pooling: average\n")
    folder = tmp_path / "deeper"
    folder.mkdir()
    (folder / "child.yaml").write_text(f"extends: ../{base.name}\nseed: 7\nsteps: 5\n")
    (folder / "grandchild.yaml").write_text("extends: child.yaml\noptimiser: {lr: 0.5}\n")
    parent, child = load_recipe(base), load_recipe(folder / "grandchild.yaml")
    assert (child.seed, child.steps, child.epochs) == (7, 5, None)  # how long is one field under two names
    assert child.optimiser.lr == 0.5
    assert child.optimiser.weight_decay == 1e-4  # the default: a field is replaced whole
    assert child.policy == parent.policy  # its options file is found from the recipe that named it
    assert child.policy.overrides == {"pooling": "average", "dropout": 0.0}
    assert child.inputs == parent.inputs


def test_recipes_in_a_circle_are_named(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{name}.yaml").write_text(f"extends: {other}.yaml\n")
    with pytest.raises(ConfigError, match=r"circle: a\.yaml → b\.yaml → a\.yaml"):
        load_recipe(tmp_path / "a.yaml")


def test_an_extended_recipe_that_is_not_there_is_named(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: gone.yaml\n")
    with pytest.raises(ConfigError, match=r"gone\.yaml"):
        load_recipe(tmp_path / "a.yaml")
