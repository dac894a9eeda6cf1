import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from vla_ros.data_types import ConfigError
from vla_ros.networks import SpatialSoftmax, backbone_names, build_backbone, load_backbone_weights
from vla_ros.networks.vision.class_token_vit import ClassTokenVit, interpolate_positions
from vla_ros.networks.vision.resnet import FrozenBatchNorm2d, published_resnet

SMALL = ["cnn", "cnn_coarse", "resnet18", "resnet18_frozen_norm", "resnet_small", "vit_small", "efficientnet_lite0"]
PUBLISHED = {
    # parameters without the classifier, and what else stands after the last maps; C of the maps
    "efficientnet_b0": (3_595_388, 320),
    "efficientnet_b3": (10_103_336, 384),
    "efficientnet_lite0": (2_958_848, 320),
    "efficientnet_lite1": (3_723_520, 320),
    "resnet18": (11_176_512, 512),
    "resnet18_frozen_norm": (11_176_512, 512),
    "resnet34": (21_284_672, 512),
    "resnet50": (23_508_032, 2048),
}


def parameters(module) -> int:
    return sum(p.numel() for p in module.parameters())


def on_meta(name, size):
    with torch.device("meta"):
        return build_backbone(name, size)


def small_vit(size=(32, 32), **options):
    sizes = {"patch_size": 16, "width": 12, "depth": 2, "n_heads": 2, "mlp_dim": 20, **options}
    return ClassTokenVit(size, torch.nn.Conv2d(3, 12, 16, 16), **sizes)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_have_their_number_of_parameters_and_maps(name):
    built = on_meta(name, (224, 224))
    assert (parameters(built), built.map_shape) == (PUBLISHED[name][0], (PUBLISHED[name][1], 7, 7))


def test_vit_b16_has_85798656_parameters():
    built = on_meta("vit_b16", (224, 224))
    assert parameters(built) == 85_798_656
    assert (built.grid, built.map_shape) == ((14, 14), (768, 1, 1))


def test_vit_b16_takes_the_walkthroughs_84_pixels_as_36_patches():
    built = on_meta("vit_b16", (84, 84))
    assert built.grid == (6, 6)
    assert built.encoder.pos_embedding.shape == (1, 37, 768)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(84, 84), (48, 64), (61, 90)])
def test_backbone_announces_the_maps_it_makes(name, size):
    built = build_backbone(name, size).eval()
    with torch.no_grad():
        assert built(torch.zeros(2, 3, *size)).shape[1:] == built.map_shape


def test_all_backbones_are_registered():
    assert set(SMALL) | set(PUBLISHED) | {"vit_b16"} <= set(backbone_names())


@pytest.mark.parametrize("name", [*SMALL, "vit_b16"])
def test_no_backbone_drops_anything_out(name):
    built = on_meta(name, (84, 84))
    rates = [module.p for module in built.modules() if isinstance(module, torch.nn.Dropout)]
    rates += [module.dropout for module in built.modules() if isinstance(getattr(module, "dropout", None), float)]
    assert not any(rates)


@pytest.mark.parametrize("name", ["resnet18", "resnet18_frozen_norm"])
def test_resnet_equals_that_of_torchvision_with_its_weights(tmp_path, name):
    theirs = models.resnet18(weights=None).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight, 1.0, 0.1)
            torch.nn.init.normal_(module.bias, 0.0, 0.1)
            module.running_mean.normal_(0.0, 0.1)
            module.running_var.uniform_(0.5, 2.0)
    save_file({name: value.contiguous() for name, value in theirs.state_dict().items()}, tmp_path / "r.safetensors")
    ours = build_backbone(name, (84, 84)).eval()
    load_backbone_weights(ours, tmp_path / "r.safetensors")
    images, features = torch.randn(2, 3, 84, 84), {}
    theirs.layer4.register_forward_hook(lambda *called: features.update(maps=called[2]))
    with torch.no_grad():
        theirs(images)
        torch.testing.assert_close(ours(images), features["maps"], rtol=0, atol=0)


def test_vit_equals_that_of_torchvision_with_its_weights(tmp_path):
    theirs = models.VisionTransformer(
        image_size=32, patch_size=16, num_layers=2, num_heads=2, hidden_dim=12, mlp_dim=20
    ).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    ours = small_vit().eval()
    load_backbone_weights(ours, tmp_path / "vit.pth")
    images, features = torch.randn(2, 3, 32, 32), {}
    theirs.encoder.register_forward_hook(lambda *called: features.update(tokens=called[2]))
    with torch.no_grad():
        theirs(images)
        torch.testing.assert_close(ours(images).flatten(1), features["tokens"][:, 0], rtol=1e-4, atol=1e-4)


def test_positions_of_the_same_grid_stay_and_those_of_another_are_interpolated():
    positions = torch.randn(1 + 14 * 14, 12)
    assert torch.equal(interpolate_positions(positions, (14, 14)), positions)
    resized = interpolate_positions(positions, (6, 5))
    assert resized.shape == (31, 12)
    assert torch.equal(resized[0], positions[0])


def test_interpolated_positions_keep_their_course():
    rows, columns = torch.meshgrid(torch.arange(14.0), torch.arange(14.0), indexing="ij")
    positions = torch.cat([torch.zeros(1, 2), torch.stack([rows, columns], -1).flatten(0, 1)])
    resized = interpolate_positions(positions, (6, 6))[1:].view(6, 6, 2)
    assert (resized[1:, :, 0] > resized[:-1, :, 0]).all()
    assert (resized[:, 1:, 1] > resized[:, :-1, 1]).all()


def test_positions_of_no_square_grid_are_refused():
    with pytest.raises(ConfigError, match="195 patches are no square grid"):
        interpolate_positions(torch.zeros(196, 4), (6, 6))


def test_positions_are_interpolated_when_weights_are_read_and_not_in_forward(tmp_path):
    large, small = small_vit((64, 64)), small_vit((32, 48))
    translated = small.translate_weights(large.state_dict())
    assert translated["encoder.pos_embedding"].shape == small.encoder.pos_embedding.shape == (1, 7, 12)


def test_own_weights_can_be_read_back(tmp_path):
    for name in ("cnn", "vit_small"):
        saved, loaded = build_backbone(name, (24, 24)).eval(), build_backbone(name, (24, 24)).eval()
        save_file(saved.state_dict(), tmp_path / f"{name}.safetensors")
        load_backbone_weights(loaded, tmp_path / f"{name}.safetensors")
        images = torch.randn(1, 3, 24, 24)
        assert torch.equal(saved(images), loaded(images))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda w: w.pop("layers.0.weight"), r"it lacks layers\.0\.weight"),
        (lambda w: w.update(extra=torch.zeros(1)), r"it has too much extra"),
        (lambda w: w.update({"layers.0.bias": torch.zeros(5)}), r"'layers\.0\.bias' is \[5\] in the file, \[32\]"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_nothing_changes(tmp_path, change, sentence):
    backbone = build_backbone("cnn", (24, 24))
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    weights = {name: value + 1.0 for name, value in before.items()}
    change(weights)
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match=rf"w\.safetensors: not the weights of this ConvStack: {sentence}"):
        load_backbone_weights(backbone, tmp_path / "w.safetensors")
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_missing_damaged_and_foreign_files_are_one_sentence(tmp_path):
    backbone = build_backbone("cnn", (24, 24))
    with pytest.raises(ConfigError, match=r"no\.pth: no such file"):
        load_backbone_weights(backbone, tmp_path / "no.pth")
    for name in ("bad.safetensors", "bad.pth"):
        (tmp_path / name).write_bytes(b"nonsense")
        with pytest.raises(ConfigError, match=rf"{name}: not readable as backbone weights"):
            load_backbone_weights(backbone, tmp_path / name)
    torch.save({"epoch": 3}, tmp_path / "run.pth")
    with pytest.raises(ConfigError, match="expected a state dict"):
        load_backbone_weights(backbone, tmp_path / "run.pth")


def test_frozen_norm_neither_learns_nor_follows_the_batch():
    backbone = published_resnet("resnet18", (32, 32), FrozenBatchNorm2d).train()
    images = torch.randn(4, 3, 32, 32)
    in_training = backbone(images)
    norms = [module for module in backbone.modules() if isinstance(module, FrozenBatchNorm2d)]
    assert norms
    assert all(not p.requires_grad for norm in norms for p in norm.parameters())
    assert torch.equal(in_training, backbone.eval()(images))
    assert all(not norm.running_mean.any() for norm in norms)


def test_small_resnet_sees_each_image_alone_in_training_too():
    backbone = build_backbone("resnet_small", (32, 32)).train()
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(backbone(images)[:1], backbone(images[:1]), rtol=1e-4, atol=1e-5)


def test_keypoints_of_a_vector_are_refused():
    with pytest.raises(ConfigError, match="needs maps"):
        SpatialSoftmax((768, 1, 1))
