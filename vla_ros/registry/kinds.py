"""The registries, one for each kind of thing that a configuration may name. Adding a built-in is one line here.

Everything is a string: that a name is known, and whose it is, can be said without importing torch, MuJoCo or ROS.
"""

from typing import Any

from vla_ros.data_types import ConfigError, nearest_name
from vla_ros.registry.registry import Registry

POLICIES: Registry[Any] = Registry(
    "policies",
    "policy",
    "A subclass of vla_ros.policies.Policy.",
    {
        "act": "vla_ros.policies.act:ActPolicy",
        "act_walkthrough": "vla_ros.policies.act:ActWalkthroughPolicy",
        "bc": "vla_ros.policies.bc:BcPolicy",
        "flow_ar": "vla_ros.policies.flow_ar:FlowArPolicy",
        "grp": "vla_ros.policies.grp:GrpPolicy",
        "multi_sensor": "vla_ros.policies.multi_sensor:MultiSensorPolicy",
        "pi0": "vla_ros.policies.pi0:Pi0Policy",
        "rt1": "vla_ros.policies.rt1:Rt1Policy",
        "world_model": "vla_ros.world_models:WorldModelPolicy",
    },
    base="vla_ros.policies.base:Policy",
)
ENCODERS: Registry[Any] = Registry(
    "encoders",
    "backbone",
    "(height, width) → a module of images [N, 3, h, w] → maps [N, C, h', w'], with `map_shape` (C, h', w').",
    {
        "cnn": "vla_ros.networks.vision.backbones:ConvStack",
        "cnn_coarse": "vla_ros.networks.vision.backbones:CoarseConvStack",
        "efficientnet_b0": "vla_ros.networks.vision.efficientnet:efficientnet_b0",
        "efficientnet_b3": "vla_ros.networks.vision.efficientnet:efficientnet_b3",
        "efficientnet_lite0": "vla_ros.networks.vision.efficientnet_lite:efficientnet_lite0",
        "efficientnet_lite1": "vla_ros.networks.vision.efficientnet_lite:efficientnet_lite1",
        "resnet18": "vla_ros.networks.vision.resnet:resnet18",
        "resnet18_frozen_norm": "vla_ros.networks.vision.resnet:resnet18_frozen_norm",
        "resnet34": "vla_ros.networks.vision.resnet:resnet34",
        "resnet50": "vla_ros.networks.vision.resnet:resnet50",
        "resnet_small": "vla_ros.networks.vision.resnet:resnet_small",
        "clip_base": "vla_ros.networks.vision.transformers_towers:clip_base",
        "clip_large": "vla_ros.networks.vision.transformers_towers:clip_large",
        "dinov2_base": "vla_ros.networks.vision.transformers_towers:dinov2_base",
        "dinov2_large": "vla_ros.networks.vision.transformers_towers:dinov2_large",
        "siglip_base": "vla_ros.networks.vision.transformers_towers:siglip_base",
        "siglip_large": "vla_ros.networks.vision.transformers_towers:siglip_large",
        "vit_b16": "vla_ros.networks.vision.class_token_vit:vit_b16",
        "vit_small": "vla_ros.networks.vision.class_token_vit:vit_small",
    },
)
FILM_TRUNKS: Registry[Any] = Registry(
    "film_trunks",
    "trunk",
    "(image size, E) → a module of images [N, 3, h, w] and a condition [N, E] or None → maps, with `map_shape`.",
    {
        "efficientnet_b3": "vla_ros.networks.vision.film_trunks:film_efficientnet_b3",
        "efficientnet_lite0": "vla_ros.networks.vision.film_trunks:film_efficientnet_lite0",
        "small_conv": "vla_ros.networks.vision.film_trunks:FilmConvStack",
    },
)
POOLINGS: Registry[Any] = Registry(
    "poolings",
    "pooling",
    "(C, h, w) → a module of maps [N, C, h, w] → features [N, F], with `feature_dim` F.",
    {
        "average": "vla_ros.networks.vision.pooling:AveragePool",
        "spatial_softmax": "vla_ros.networks.vision.pooling:SpatialSoftmax",
    },
)
PROJECTORS: Registry[Any] = Registry(
    "projectors",
    "projector",
    "(input width, output width, **options) → a module of tokens [B, N, W], valid [B, N] or None → tokens [B, Q, D].",
    {
        "mlp": "vla_ros.networks.projectors.projectors:MLPProjector",
        "attention_pool": "vla_ros.networks.projectors.projectors:AttentionPoolingProjector",
        "perceiver": "vla_ros.networks.projectors.projectors:PerceiverProjector",
        "pixel_shuffle": "vla_ros.networks.projectors.projectors:PixelShuffleProjector",
    },
)
SENSORS: Registry[Any] = Registry(
    "sensors",
    "sensor encoder",
    "(feature shape, width D, **options) → a module of values [B, ...] → (tokens [B, N, D], valid [B, N]), with "
    "`n_tokens` and `width`.",
    {
        "pointnet2": "vla_ros.networks.sensors:PointNet2",
        "pillars": "vla_ros.networks.sensors:Pillars",
        "range_image": "vla_ros.networks.sensors:RangeImage",
        "lstm": "vla_ros.networks.sensors:LstmWindow",
        "conv1d": "vla_ros.networks.sensors:ConvWindow",
        "linear": "vla_ros.networks.sensors:VectorToken",
        "range_doppler": "vla_ros.networks.sensors:RangeDoppler",
        "radar_points": "vla_ros.networks.sensors:RadarPoints",
        "raster": "vla_ros.networks.sensors:Raster",
    },
)
FUSIONS: Registry[Any] = Registry(
    "fusions",
    "fusion",
    "(names, width D, n_heads, n_layers, **options) → a module of name → (tokens, valid) → (tokens, valid) of all.",
    {
        "concatenation": "vla_ros.networks.fusion:Concatenation",
        "cross_modal": "vla_ros.networks.fusion:CrossModalFusion",
        "hierarchical": "vla_ros.networks.fusion:HierarchicalFusion",
    },
)
MEMORIES: Registry[Any] = Registry(
    "memories",
    "memory",
    "(width D, **options) → a module of (tokens [B, L, D], valid [B, L], state or None) → (tokens [B, L, D], state), "
    "the state a mapping of names to tensors.",
)
HEADS: Registry[Any] = Registry(
    "heads",
    "head",
    "(input width, hidden widths, output width, dropout) → a module of features [..., F] → numbers [..., O].",
    {"mlp": "vla_ros.networks.heads.mlp:mlp"},
)
ACTION_HEADS: Registry[Any] = Registry(
    "action_heads",
    "action head",
    "A subclass of vla_ros.networks.heads.ActionHeadBase: features [B, D] or [B, Q, D] → actions [B, H, A] and a loss.",
    {
        "mlp": "vla_ros.networks.heads.mlp_heads:MLPActionHead",
        "gaussian": "vla_ros.networks.heads.mlp_heads:GaussianMLPActionHead",
        "diffusion": "vla_ros.networks.heads.denoising_heads:DiffusionActionHead",
        "flow": "vla_ros.networks.heads.denoising_heads:FlowMatchingActionHead",
        "transformer": "vla_ros.networks.heads.autoregressive_head:TransformerActionHead",
    },
    base="vla_ros.networks.heads.action_head:ActionHeadBase",
)
LANGUAGE_MODELS: Registry[Any] = Registry(
    "language_models",
    "language model",
    "A vla_ros.networks.language.language_model.PublishedModel: configuration class of transformers, sizes, name.",
    {
        "qwen2_0_5b": "vla_ros.networks.language.language_model:QWEN2_0_5B",
        "qwen2_1_5b": "vla_ros.networks.language.language_model:QWEN2_1_5B",
        "qwen2_7b": "vla_ros.networks.language.language_model:QWEN2_7B",
        "llama3_8b": "vla_ros.networks.language.language_model:LLAMA3_8B",
        "phi3_mini": "vla_ros.networks.language.language_model:PHI3_MINI",
        "smollm2_135m": "vla_ros.networks.language.language_model:SMOLLM2_135M",
    },
    base="vla_ros.networks.language.language_model:PublishedModel",
    is_value=True,
)
READOUTS: Registry[Any] = Registry(
    "readouts",
    "readout",
    "(width D, layers, horizon H, **options) → a vla_ros.networks.language.readouts.Readout: hidden states → features.",
    {
        "last_valid": "vla_ros.networks.language.readouts:LastValid",
        "attention_pool": "vla_ros.networks.language.readouts:AttentionPool",
        "action_queries": "vla_ros.networks.language.readouts:ActionQueries",
        "layerwise": "vla_ros.networks.language.readouts:Layerwise",
    },
)
OBJECTIVES: Registry[Any] = Registry(
    "objectives",
    "objective",
    "(predicted, target, is_pad, weight_BH1=None) → the scalar loss of a chunk, as vla_ros.objectives.smooth_l1; or a "
    "class with `from_options` and either `actions` and `loss` of what the network gives, as "
    "vla_ros.objectives.BinnedActions, or `draw` and `sample` of a network that takes noise away, as "
    "vla_ros.objectives.FlowMatching.",
    {
        "smooth_l1": "vla_ros.objectives:smooth_l1",
        "mse": "vla_ros.objectives:mse",
        "l1": "vla_ros.objectives:l1",
        "cross_entropy": "vla_ros.objectives:BinnedActions",
        "flow_matching": "vla_ros.objectives:FlowMatching",
        "diffusion": "vla_ros.objectives:Diffusion",
    },
)
COORDINATES: Registry[Any] = Registry(
    "coordinates",
    "coordinates",
    "A class with `from_options`, `motion` and `error`: what a network's bounded numbers say of a motion of three, as "
    "vla_ros.objectives.SphericalMotion.",
    {"cartesian": "vla_ros.objectives:CartesianMotion", "spherical": "vla_ros.objectives:SphericalMotion"},
)
TEXT_MODELS: Registry[Any] = Registry(
    "text_models",
    "text model",
    "A subclass of vla_ros.processors.TextModel.",
    {
        "characters": "vla_ros.processors.text_models:Characters",
        "tokenizer": "vla_ros.processors.text_models:Tokenizer",
        "sentence_embedding": "vla_ros.processors.text_models:SentenceEmbedding",
        "encoder": "vla_ros.processors.text_models:Encoder",
    },
    base="vla_ros.processors.text_models:TextModel",
)
PROCESSORS: Registry[Any] = Registry(
    "processors",
    "processor",
    "A subclass of vla_ros.processors.ProcessorStep: a step between what a robot measures and what its policy sees.",
    {
        "relative_actions": "vla_ros.processors.relative_actions:RelativeActions",
        "rotation_form": "vla_ros.processors.rotation_form:RotationFormStep",
        "resize": "vla_ros.processors.resize:Resize",
        "normalise": "vla_ros.processors.normalise:Normalise",
        "text": "vla_ros.processors.text:TextStep",
    },
    base="vla_ros.processors.step:ProcessorStep",
)
BACKENDS: Registry[Any] = Registry(
    "backends",
    "inference backend",
    "A function of vla_ros.runtime.LoadRequest → vla_ros.runtime.LoadedPolicy.",
    {"thread": "vla_ros.runtime.loading:load_here", "process": "vla_ros.runtime.loading:load_in_process"},
)
SIMULATORS: Registry[Any] = Registry(
    "simulators",
    "simulator",
    "A function of vla_ros.sim.SimRequest → vla_ros.sim.Robot.",
    {
        "metaworld": "vla_ros.sim.metaworld.robot:make_robot",
        "mobile_base": "vla_ros.sim.mobile_base.robot:make_robot",
    },
)
MESSAGES: Registry[Any] = Registry(
    "messages",
    "message type",
    "A vla_ros.contract.types.MessageType under its own name: what it can be as an input, a record and a sink.",
    base="vla_ros.contract.types:MessageType",
    is_value=True,
)
"""Those of this package are found in `vla_ros.messages.types` when a contract first asks for one."""

KINDS: dict[str, Registry[Any]] = {
    registry.kind: registry
    for registry in (
        POLICIES,
        ENCODERS,
        FILM_TRUNKS,
        POOLINGS,
        PROJECTORS,
        SENSORS,
        MEMORIES,
        FUSIONS,
        HEADS,
        ACTION_HEADS,
        LANGUAGE_MODELS,
        READOUTS,
        OBJECTIVES,
        COORDINATES,
        TEXT_MODELS,
        PROCESSORS,
        BACKENDS,
        SIMULATORS,
        MESSAGES,
    )
}
"""Kind → its registry."""

# as published vision-language-action code names its module-level dictionaries
ENCODER_REGISTRY = ENCODERS
ACTION_HEAD_REGISTRY = ACTION_HEADS


def registry_of(kind: str) -> Registry[Any]:
    """Return the registry of a kind.

    Raises:
        ConfigError: There is no such kind.
    """
    if kind not in KINDS:
        raise ConfigError(f"'{kind}' is not a kind of part: {', '.join(KINDS)}.{nearest_name(kind, KINDS)}")
    return KINDS[kind]
