"""Encoders of vision-language models: equal to transformers' own patch tokens, frozen as said, adapted and merged."""

import json
import socket

import pytest
import torch
import transformers

from vla_ros.data_types import ConfigError
from vla_ros.networks import load_backbone_weights
from vla_ros.networks.lora import lora_parameters, merge_lora
from vla_ros.networks.vision.image_fitting import fit_images
from vla_ros.networks.vision.transformers_towers import SIZES, TransformersTower
from vla_ros.networks.vision.vision_encoder import HALF, OPENAI, VisionEncoder, VisionEncoderConfig
from vla_ros.registry import ENCODER_REGISTRY

TINY = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": 8, "image_size": 32}
FAMILIES = ["siglip_base", "clip_base", "dinov2_base"]
COUNTS = {
    # the published tower, less what makes no patch tokens: SigLIP's pooling head, CLIP's last layer (feature_layer −2)
    # and norm, DINOv2's mask token
    "siglip_base": (92_884_224 - 7_087_104, 768, 196),
    "siglip_large": (315_956_224 - 12_595_200, 1024, 196),
    "clip_base": (85_799_424 - 7_087_872 - 1_536, 768, 196),
    "clip_large": (303_179_776 - 12_596_224 - 2_048, 1024, 256),
    "dinov2_base": (86_580_480 - 768, 768, 256),
    "dinov2_large": (304_368_640 - 1_024, 1024, 256),
}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def tiny_sizes(name):
    return {**TINY, **({"mlp_ratio": 2} if name.startswith("dinov2") else {"intermediate_size": 48})}


def tower(name, size=(32, 32), **options):
    return TransformersTower(size, name, sizes=tiny_sizes(name), **options).eval()


def theirs(name, **options):
    family = TransformersTower((32, 32), name, sizes=tiny_sizes(name)).family
    config = getattr(transformers, family.config)(**{**SIZES[name], **tiny_sizes(name), **options})
    return getattr(transformers, family.model)(config).eval(), family


def shaken(model):
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return model


@torch.no_grad()
@pytest.mark.parametrize("feature_layer", [-1, -2, -3, None])
@pytest.mark.parametrize("name", FAMILIES)
def test_patch_tokens_are_exactly_those_of_transformers(tmp_path, name, feature_layer):
    model, family = theirs(name)
    shaken(model).save_pretrained(tmp_path)
    ours = tower(name, feature_layer=feature_layer)
    load_backbone_weights(ours, tmp_path)
    images = torch.randn(2, 3, 32, 32)
    said = model(images, output_hidden_states=True)
    layer = family.feature_layer if feature_layer is None else feature_layer
    expected = said.last_hidden_state if layer == -1 else said.hidden_states[layer]
    assert torch.equal(ours.tokens(images), expected[:, family.n_prefix :])
    assert torch.equal(ours(images).flatten(2).transpose(1, 2), ours.tokens(images))


@torch.no_grad()
@pytest.mark.parametrize("name", FAMILIES)
def test_images_of_another_size_have_transformers_interpolated_positions(tmp_path, name):
    model, family = theirs(name)
    shaken(model).save_pretrained(tmp_path)
    ours = tower(name, (48, 40), feature_layer=-1)
    load_backbone_weights(ours, tmp_path)
    images = torch.randn(1, 3, 48, 40)
    options = {} if name.startswith("dinov2") else {"interpolate_pos_encoding": True}
    assert torch.equal(ours.tokens(images), model(images, **options).last_hidden_state[:, family.n_prefix :])
    assert ours.map_shape == (24, 6, 5)


@pytest.mark.parametrize("name", ["siglip_base", "clip_base"])
def test_a_folder_of_the_whole_two_tower_model_gives_its_vision_tower(tmp_path, name):
    ours, kind = tower(name, feature_layer=-1), "Siglip" if name.startswith("siglip") else "CLIP"
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**SIZES[name], **tiny_sizes(name)}
    config = getattr(transformers, f"{kind}Config")(text_config=text, vision_config=vision)
    model = shaken(getattr(transformers, f"{kind}Model")(config)).eval()
    model.save_pretrained(tmp_path)
    load_backbone_weights(ours, tmp_path)
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        expected = model.vision_model(images).last_hidden_state
        assert torch.equal(ours.tokens(images), expected[:, expected.shape[1] - 16 :])
    configured = VisionEncoderConfig.of_folder(tmp_path)
    assert (configured.model_name, configured.sizes["hidden_size"], configured.image_size) == (name, 24, 32)


@pytest.mark.parametrize("name", FAMILIES)
def test_own_weights_can_be_read_back(tmp_path, name):
    from safetensors.torch import save_file

    saved, loaded = shaken(tower(name)), tower(name)
    save_file(saved.state_dict(), tmp_path / "own.safetensors")
    load_backbone_weights(loaded, tmp_path / "own.safetensors")
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(saved(images), loaded(images))


@pytest.mark.parametrize("name", COUNTS)
def test_published_towers_have_their_number_of_parameters_width_and_tokens(name):
    with torch.device("meta"):
        encoder = VisionEncoder(VisionEncoderConfig(model_name=name))
    count = sum(parameter.numel() for parameter in encoder.parameters())
    assert (count, encoder.width, encoder.n_tokens) == COUNTS[name]


@pytest.mark.parametrize(
    ("name", "mean_std"), [("siglip_base", HALF), ("clip_large", OPENAI), ("efficientnet_lite0", HALF)]
)
def test_mean_and_deviation_of_the_family_are_stored(name, mean_std):
    config = VisionEncoderConfig(model_name=name)
    assert (config.mean, config.std) == mean_std


def tiny(name="siglip_base", **options):
    return VisionEncoder(VisionEncoderConfig(model_name=name, image_size=32, sizes=tiny_sizes(name), **options))


@torch.no_grad()
def test_images_are_resized_and_normalised_before_the_tower():
    encoder = tiny(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)).eval()
    images = torch.rand(2, 3, 64, 48)
    fitted = fit_images(images, (32, 32), "stretch")
    normalised = (fitted - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / torch.tensor([0.5, 0.6, 0.7])[:, None, None]
    assert torch.equal(encoder(images), encoder.encoder.tokens(normalised))
    assert encoder(images).shape == (2, encoder.n_tokens, encoder.width) == (2, 16, 24)


def test_a_frozen_encoder_learns_nothing_and_stays_in_evaluation_mode():
    encoder = VisionEncoder(VisionEncoderConfig(model_name="resnet18", image_size=32)).train()
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder(torch.rand(2, 3, 32, 32))
    assert all(torch.equal(value, encoder.state_dict()[name]) for name, value in before.items())


def test_of_a_partly_tuned_encoder_the_last_layers_learn():
    encoder = tiny(tune_last_n=2).train()
    encoder(torch.rand(1, 3, 32, 32)).square().sum().backward()
    learning = {name.split(".layers.")[1][0] for name, p in encoder.named_parameters() if p.requires_grad}
    assert learning == {"1", "2"}
    assert all(p.grad is not None for p in encoder.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", FAMILIES)
def test_adapters_start_as_nothing_learn_alone_and_merge_without_a_trace(name):
    images = torch.rand(2, 3, 32, 32)
    encoder = tiny(name).eval()
    plain, names = encoder(images), set(encoder.state_dict())
    adapted = encoder.enable_lora(r=4, alpha=8)
    assert len(adapted) == 4 * len(encoder.encoder.transformer_layers())
    torch.testing.assert_close(encoder(images), plain)
    assert {n for n, p in encoder.named_parameters() if p.requires_grad} == set(lora_parameters(encoder))
    for parameter in lora_parameters(encoder).values():
        parameter.data.normal_(std=0.1)
    changed = encoder(images)
    assert not torch.allclose(changed, plain, atol=1e-3)
    merge_lora(encoder)
    torch.testing.assert_close(encoder(images), changed, rtol=1e-4, atol=1e-5)
    assert set(encoder.state_dict()) == names


def test_gradient_checkpointing_changes_no_gradient():
    images, gradients = torch.rand(1, 3, 32, 32), []
    encoder = tiny(freeze=False).train()
    for _ in range(2):
        encoder.zero_grad()
        encoder(images).square().sum().backward()
        gradients.append([p.grad.clone() for p in encoder.parameters() if p.grad is not None])
        assert encoder.enable_gradient_checkpointing() in (3, 0)
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("name", ["cnn", "resnet18", "efficientnet_lite0", "vit_small"])
def test_every_backbone_is_an_encoder_of_tokens(name):
    encoder = VisionEncoder(VisionEncoderConfig(model_name=name, image_size=(48, 64))).eval()
    with torch.no_grad():
        assert encoder(torch.rand(2, 3, 90, 61)).shape == (2, encoder.n_tokens, encoder.width)


def test_an_encoder_of_another_package_is_registered_as_in_a_dictionary():
    class MyEncoder(torch.nn.Module):
        def __init__(self, image_size):
            super().__init__()
            self.patches = torch.nn.Conv2d(3, 6, 8, 8)

        def forward(self, images):
            return self.patches(images).flatten(2).transpose(1, 2)

    ENCODER_REGISTRY["my_encoder"] = MyEncoder
    try:
        encoder = VisionEncoder(VisionEncoderConfig(model_name="my_encoder", image_size=32))
        assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, encoder.n_tokens, encoder.width) == (2, 16, 6)
    finally:
        del ENCODER_REGISTRY["my_encoder"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"model_name": "siglip_bse"}, "Did you mean 'siglip_base'"),
        ({"image_size": 30}, r"patch_size=8 must divide the image of 30×30"),
        ({"feature_layer": -4}, "feature_layer=-4 must be −1 to −3"),
        ({"sizes": {"width": 3}}, "sizes: 'width' is not one of"),
        ({"sizes": {**TINY, "num_attention_heads": 5}}, "num_attention_heads=5 must divide hidden_size=24"),
        ({"model_name": "cnn"}, "encoder 'cnn' has no sizes"),
        ({"freeze": False, "lora_rank": 2}, "are of a frozen encoder"),
        ({"tune_last_n": 1, "lora_rank": 2}, "exclude each other"),
        ({"tune_last_n": 4}, "has 3 layers"),
        ({"model_name": "cnn", "sizes": {}, "tune_last_n": 1}, "has no layers to choose from"),
        ({"std": (1.0, 0.0, 1.0)}, "must be above 0"),
        ({"resize": "zoom"}, "resize 'zoom' is not one of"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, sentence):
    def use():
        config = VisionEncoderConfig(**{"image_size": 32, "sizes": tiny_sizes("siglip_base"), **options})
        VisionEncoder(config)(torch.rand(1, 3, 32, 48))

    with pytest.raises(ConfigError, match=sentence):
        use()


def test_weights_that_are_not_the_towers_are_refused(tmp_path):
    model, _ = theirs("siglip_base", num_hidden_layers=2)
    model.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="not the weights of this TransformersTower: it lacks"):
        load_backbone_weights(tower("siglip_base"), tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ConfigError, match="model_type 'bert' is none of siglip"):
        VisionEncoderConfig.of_folder(tmp_path)


def test_a_name_on_the_hub_is_never_fetched_unasked(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("the network was used"))
    with pytest.raises(ConfigError, match="write 'download:google/siglip-base-patch16-224' to fetch it"):
        load_backbone_weights(tower("siglip_base"), "google/siglip-base-patch16-224")


def test_ways_to_fit_an_image():
    wide = torch.ones(1, 3, 20, 40)
    assert fit_images(wide, (40, 40), "stretch").eq(1).all()
    padded = fit_images(wide, (40, 40), "pad_left_top")[0, 0]
    assert padded[:20].eq(0).all()
    assert padded[20:].eq(1).all()
    centred = fit_images(wide, (40, 40), "pad_center")[0, 0]
    assert centred[10:30].eq(1).all()
    assert centred.sum() == 800
    sides = torch.cat([torch.zeros(1, 3, 20, 10), torch.ones(1, 3, 20, 20), torch.zeros(1, 3, 20, 10)], dim=-1)
    assert fit_images(sides, (20, 20), "crop").eq(1).all()
    tall = torch.ones(1, 3, 40, 20)
    assert fit_images(tall, (40, 40), "pad_left_top")[0, 0, :, :20].eq(0).all()
