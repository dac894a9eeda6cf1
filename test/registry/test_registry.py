import functools
import subprocess
import sys

import pytest

from vla_ros.cli.main import main
from vla_ros.data_types import ConfigError
from vla_ros.registry import (
    ACTION_HEAD_REGISTRY,
    ACTION_HEADS,
    BACKENDS,
    ENCODER_REGISTRY,
    ENCODERS,
    KINDS,
    OBJECTIVES,
    BrokenPartError,
    Registry,
    TakenNameError,
    UnknownNameError,
    registry_of,
)


@pytest.fixture
def shapes() -> Registry:
    """Things of one kind, one of them built in."""
    return Registry("shapes", "shape", "A function.", {"square": "math:sqrt"})


def circle() -> None:
    """A thing of the test's own."""


def other() -> None:
    """Another one."""


def test_listing_every_kind_imports_no_torch_no_ros_and_no_part_of_any_package():
    code = (
        "import sys; from vla_ros.registry import KINDS\n"
        "names = [name for registry in KINDS.values() for name in registry]\n"
        "entries = [entry.place for registry in KINDS.values() for entry in registry.entries()]\n"
        "assert len(names) > 20 and len(entries) >= len(names)\n"
        "heavy = ('torch', 'rclpy', 'mujoco', 'vla_ros.policies', 'vla_ros.runtime', 'vla_ros.sim')\n"
        "assert not [name for name in heavy if name in sys.modules]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("kind", KINDS)
def test_every_built_in_of_a_kind_imports_and_is_of_its_kind(kind):
    for name in KINDS[kind]:
        assert KINDS[kind][name] is not None, name


def test_a_thing_is_registered_as_in_a_dictionary(shapes):
    shapes["circle"] = circle
    assert shapes["circle"] is circle
    assert list(shapes) == ["square", "circle"]
    assert "circle" in shapes
    assert len(shapes) == 2
    assert shapes.get("triangle") is None
    del shapes["circle"]
    assert "circle" not in shapes


def test_a_thing_may_be_registered_by_its_place_and_is_imported_when_asked_for(shapes):
    shapes["late"] = "no_such_module_anywhere:thing"
    assert "late" in shapes
    with pytest.raises(BrokenPartError, match=r"shape 'late' of .* \(no_such_module_anywhere:thing\) cannot be"):
        shapes["late"]


def test_the_dictionaries_of_published_models_are_these_registries():
    assert ENCODER_REGISTRY is ENCODERS
    assert ACTION_HEAD_REGISTRY is ACTION_HEADS


def test_registering_the_same_thing_again_changes_nothing(shapes):
    shapes["circle"] = circle
    shapes["circle"] = circle
    shapes["square"] = "math:sqrt"
    assert len(shapes) == 2


def test_a_definition_that_is_run_again_as_in_a_notebook_replaces_its_older_self(shapes):
    cell = "class Ring: pass\nshapes['ring'] = Ring"
    first, second = ({"__name__": "__main__", "shapes": shapes} for _ in range(2))
    exec(cell, first)  # noqa: S102
    exec(cell, second)  # noqa: S102
    assert shapes["ring"] is second["Ring"]
    assert shapes["ring"] is not first["Ring"]


@pytest.mark.parametrize("make", [lambda size: lambda: size, lambda size: functools.partial(circle, size)])
def test_things_without_a_name_of_their_own_are_no_definitions_run_again(shapes, make):
    shapes["ring"] = make(1)
    with pytest.raises(TakenNameError, match="exists already"):
        shapes["ring"] = make(2)
    assert str(shapes.entry("ring").owner) != "the module 'functools'"


def test_a_taken_name_is_an_error_that_names_both_owners(shapes):
    with pytest.raises(TakenNameError, match=r"'square' cannot be .*circle.* exists already, as math:sqrt of vla_ros"):
        shapes["square"] = circle
    shapes["circle"] = circle
    with pytest.raises(ValueError, match=r"test_registry:other .*exists already, as .*test_registry:circle"):
        shapes["circle"] = other


def test_an_unknown_name_names_the_nearest_and_what_is_installed(shapes, install):
    install("wheels", "[vla_ros.shapes]\nwheel = wheels:Wheel\n")
    with pytest.raises(UnknownNameError, match=r"'squar' is not one of square, wheel \(of wheels 1\.0\)\. Did you"):
        shapes["squar"]


def test_the_sentence_of_an_unknown_name_is_short_whatever_the_name(shapes):
    with pytest.raises(UnknownNameError) as caught:
        shapes["x" * 1_000_000]
    assert len(str(caught.value)) < 300


def test_what_is_no_thing_of_the_kind_is_refused_with_what_is_expected(shapes):
    with pytest.raises(BrokenPartError, match=r"'number' .*cannot be called; expected: A function\."):
        shapes["number"] = 3


def test_an_installed_package_provides_a_thing_which_is_imported_when_asked_for(shapes, install):
    install("wheels", "[vla_ros.shapes]\nwheel = wheels:Wheel\n", {"wheels": "class Wheel: pass"}, "2.1")
    assert "wheel" in shapes
    assert "wheels" not in sys.modules
    assert shapes["wheel"].__module__ == "wheels"
    assert str(shapes.entry("wheel").owner) == "wheels 2.1"


def test_the_owner_of_a_registered_thing_is_the_package_that_installed_its_module(shapes, install):
    install("wheel-makers", "", {"wheels": "class Wheel: pass"}, "3.0")
    from wheels import Wheel

    shapes["wheel"] = Wheel
    assert str(shapes.entry("wheel").owner) == "wheel-makers 3.0"


@pytest.mark.parametrize(
    ("module", "value", "reason"),
    [
        ("raise RuntimeError('no licence\\nsecond line')", "wheels:Wheel", "RuntimeError: no licence"),
        ("import no_such_module_anywhere", "wheels:Wheel", "ModuleNotFoundError: No module named"),
        ("", "wheels:Wheel", "AttributeError: "),
        ("def Wheel(:", "wheels:Wheel", "SyntaxError: "),
        ("", "not a place", "ModuleNotFoundError: "),
        ("raise SystemExit(3)", "wheels:Wheel", "SystemExit: 3"),
        ("Wheel = 3", "wheels:Wheel", None),
    ],
)
def test_a_broken_package_is_named_in_one_line_and_breaks_no_other(shapes, install, module, value, reason):
    install("good", "[vla_ros.shapes]\ngood = good_shapes:Good\n", {"good_shapes": "class Good: pass"})
    install("wheels", f"[vla_ros.shapes]\nwheel = {value}\n", {"wheels": module})
    assert set(shapes) == {"good", "square", "wheel"}
    with pytest.raises(BrokenPartError) as caught:
        shapes["wheel"]
    sentence = str(caught.value)
    assert "shape 'wheel' of wheels 1.0" in sentence
    assert "\n" not in sentence
    assert (f"cannot be imported: {reason}" if reason else "cannot be called") in sentence
    assert shapes["good"].__name__ == "Good"


def test_a_package_whose_entry_points_cannot_be_read_is_named_and_breaks_no_other(shapes, install):
    install("torn", "[vla_ros.shapes]\nthis line is no entry point of anything\n")
    install("wheels", "[vla_ros.shapes]\nwheel = wheels:Wheel\n", {"wheels": "class Wheel: pass"})
    assert shapes["wheel"].__name__ == "Wheel"
    with pytest.raises(UnknownNameError, match=r"The entry points of torn 1\.0 cannot be read"):
        shapes["ring"]


def test_a_built_in_name_that_another_package_takes_is_an_error_when_it_is_asked_for(shapes, install):
    install(
        "wheels", "[vla_ros.shapes]\nsquare = wheels:Wheel\nwheel = wheels:Wheel\n", {"wheels": "class Wheel: pass"}
    )
    with pytest.raises(TakenNameError, match=r"'square' is provided by vla_ros .* \(math:sqrt\) and by wheels 1\.0 "):
        shapes["square"]
    assert shapes["wheel"].__name__ == "Wheel"


def test_a_name_that_two_packages_take_is_an_error_that_names_both(shapes, install):
    for name in ("one", "two"):
        install(name, f"[vla_ros.shapes]\nwheel = {name}:Wheel\n")
    with pytest.raises(TakenNameError, match=r"provided by two 1\.0 \(two:Wheel\) and by one 1\.0 \(one:Wheel\)"):
        shapes["wheel"]
    assert len(shapes.entries()) == 3


def test_of_two_versions_on_the_path_the_first_counts_as_in_imports(shapes, install):
    install("wheels", "[vla_ros.shapes]\nwheel = wheels:Wheel\n", {"wheels": "class Wheel: size = 1"}, "1.0")
    install("wheels", "[vla_ros.shapes]\nwheel = wheels:Wheel\n", {"wheels": "class Wheel: size = 2"}, "2.0")
    assert str(shapes.entry("wheel").owner) == "wheels 2.0"
    assert shapes["wheel"].size == 2


def test_a_package_may_register_what_its_entry_point_names(shapes, install):
    install("wheels", "[vla_ros.shapes]\nwheel = wheels:Wheel\n", {"wheels": "class Wheel: pass"})
    from wheels import Wheel

    shapes["wheel"] = Wheel
    assert shapes["wheel"] is Wheel
    assert len(shapes.entries()) == 2


def test_a_stand_in_takes_the_place_of_a_thing_until_it_is_removed():
    own = OBJECTIVES["l1"]
    OBJECTIVES.stand_ins["l1"] = circle
    assert OBJECTIVES["l1"] is circle
    OBJECTIVES.stand_ins["l1"] = own
    del OBJECTIVES.stand_ins["l1"]
    assert OBJECTIVES["l1"] is own
    with pytest.raises(UnknownNameError):
        OBJECTIVES.stand_ins["no_such"] = circle


def test_an_unknown_kind_names_the_nearest():
    assert registry_of("backends") is BACKENDS
    with pytest.raises(ConfigError, match=r"'policys' is not a kind of part: .* Did you mean 'policies'\?"):
        registry_of("policys")


def test_the_command_line_lists_a_kind_with_packages_and_places_and_checks_them(capsys, install):
    install("wheels", "[vla_ros.poolings]\nwheel = wheels:Wheel\n", {"wheels": "raise RuntimeError('no licence')"})
    assert main(["parts", "poolings"]) == 0
    listed = capsys.readouterr().out
    assert any(
        "average" in line and "vla_ros.networks.vision.pooling:AveragePool" in line for line in listed.splitlines()
    )
    assert any("wheel" in line and "wheels 1.0, wheels:Wheel" in line for line in listed.splitlines())
    assert main(["parts", "poolings", "--check"]) == 1
    assert "pooling 'wheel' of wheels 1.0 (wheels:Wheel) cannot be imported: RuntimeError: no licence." in (
        capsys.readouterr().out
    )
    assert main(["parts", "pools"]) == 2
