"""The networks of tools/coverage/coverage.py: of torchvision and timm by name, of transformers by tiny configurations."""

import re
from dataclasses import dataclass
from typing import Callable

import timm
import torch
import torchvision
import transformers
from torch import nn

from research import RESEARCH

CLASSES = 10
VOCABULARY = 61
TOKENS = 12


@dataclass
class Network:
    name: str
    group: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int], dict[str, torch.Tensor]]
    loss: str = "cross-entropy"
    listed: bool = False  # in the list that coverage is asked for, not only a neighbour of it


def images(side, channels=3, name="x"):
    return lambda rows: {name: torch.randn(rows, channels, side, side)}


def tokens(rows):
    return {"ids": torch.randint(3, VOCABULARY, (rows, TOKENS))}


def padded_tokens(rows):
    mask = torch.ones(rows, TOKENS, dtype=torch.int64)
    mask[0, -3:] = 0
    return tokens(rows) | {"attention_mask": mask}


def token_pairs(rows):
    return tokens(rows) | {"decoder_ids": torch.randint(3, VOCABULARY, (rows, TOKENS - 3))}


# ---- torchvision: name, side in pixels, arguments

TORCHVISION = """
vgg11 32
vgg11_bn 32
resnet18 64
resnet50 64
resnext50_32x4d 64
densenet121 64
mobilenet_v3_small 64
mobilenet_v3_large 64
squeezenet1_0 64
squeezenet1_1 64
efficientnet_b0 64
efficientnet_v2_s 64
regnet_y_400mf 64
convnext_tiny 64
swin_t 64
googlenet 96 aux_logits=False
- neighbours
vgg16 32
alexnet 64
resnet34 64
wide_resnet50_2 64
densenet169 64
mobilenet_v2 64
mnasnet0_5 64
mnasnet1_0 64
shufflenet_v2_x0_5 64
shufflenet_v2_x1_0 64
efficientnet_b1 64
regnet_x_400mf 64
convnext_small 64
swin_v2_t 64
inception_v3 96 aux_logits=False
"""


def torchvision_vit():
    return torchvision.models.VisionTransformer(32, 8, 2, 4, 64, 128, num_classes=CLASSES)


def torchvision_maxvit():
    return torchvision.models.MaxVit((64, 64), 16, 4, [16, 32], [1, 1], 8, 0.0, num_classes=CLASSES)


def torchvision_swin():
    return torchvision.models.SwinTransformer([2, 2], 16, [2, 2], [2, 4], [4, 4], num_classes=CLASSES)


def torchvision_swin_v2():
    block, merging = (
        torchvision.models.swin_transformer.SwinTransformerBlockV2,
        torchvision.models.swin_transformer.PatchMergingV2,
    )
    return torchvision.models.SwinTransformer(
        [2, 2], 16, [2, 2], [2, 4], [4, 4], num_classes=CLASSES, block=block, downsample_layer=merging
    )


# ---- timm: name, side in pixels, arguments

TIMM = """
resnet26d 64
resnet50d 64
wide_resnet50_2 64
resnext50_32x4d 64
ecaresnet26t 64
resnetblur18 64
resnest14d 64
cspresnet50 64
densenet121 64
dla34 64
xception41 96
inception_v4 96
convnext_atto 64
convnextv2_atto 64
nf_resnet26 64
nfnet_l0 64
efficientnet_b0 64
tf_efficientnetv2_b0 64
mobilenetv3_small_050 64
mobilenetv4_conv_small 64
regnety_002 64
ghostnet_050 64
rexnet_100 64
mobileone_s0 64
deit_tiny_patch16_224 32 img_size=32 patch_size=8
deit3_small_patch16_224 32 img_size=32 patch_size=8 depth=2
beit_base_patch16_224 32 img_size=32 patch_size=8 depth=2
eva02_tiny_patch14_224 28 img_size=28 patch_size=7 depth=2
xcit_nano_12_p16_224 64 img_size=64 depth=2
levit_128s 224
swinv2_tiny_window8_256 64 img_size=64
mixer_s32_224 64 img_size=64
gmlp_s16_224 64 img_size=64
pit_ti_224 64 img_size=64
mobilevit_xxs 64
coatnet_nano_rw_224 64 img_size=64
davit_tiny 64
efficientformer_l1 224
- neighbours
resnet18 64
resnet10t 64
resnet14t 64
resnetaa34d 64
resnetv2_50 64
resnetrs50 64
seresnet18 64
legacy_seresnext26_32x4d 64
seresnext26d_32x4d 64
skresnet18 64
gcresnext26ts 64
gernet_s 64
res2net50_14w_8s 64
hrnet_w18_small 64
dla46x_c 64
densenetblur121d 64
dpn48b 64
vovnet39a 64
ese_vovnet19b_slim_dw 64
selecsls42b 64
darknet17 64
cs3darknet_s 64
tresnet_m 64
hgnetv2_b0 64
vgg11 32
inception_v3 96
nf_regnet_b0 64
efficientnet_lite0 64
efficientnet_es 64
efficientnet_b1_pruned 64
gc_efficientnetv2_rw_t 64
mixnet_s 64
mnasnet_small 64
semnasnet_075 64
spnasnet_100 64
mobilenetv1_100 64
mobilenetv2_050 64
mobilenet_edgetpu_100 64
mobilenetv3_large_100 64
mobilenetv4_hybrid_medium 64
fbnetc_100 64
tinynet_e 64
lcnet_050 64
hardcorenas_a 64
regnetx_002 64
regnetz_b16 64
ghostnetv2_100 64
repvgg_a0 64
repghostnet_050 64
repvit_m0_9 64
mobileone_s1 64
fasternet_t0 64
starnet_s1 64
convnext_femto 64
convnextv2_femto 64
convmixer_768_32 64
inception_next_atto 64
mambaout_femto 64
rdnet_tiny 64
edgenext_xx_small 64
fastvit_t8 64
efficientvit_b0 64
efficientvit_m0 224
efficientformerv2_s0 224
swiftformer_xs 224
tiny_vit_5m_224 224
shvit_s1 64
mobilevitv2_050 64
vit_tiny_patch16_224 32 img_size=32 patch_size=8 depth=2
vit_base_patch32_clip_224 64 img_size=64 embed_dim=96 num_heads=4 depth=2
vit_medium_patch16_gap_256 32 img_size=32 patch_size=8 depth=2
vit_relpos_small_patch16_224 32 img_size=32 patch_size=8 depth=2
vit_srelpos_small_patch16_224 32 img_size=32 patch_size=8 depth=2
vit_small_patch16_rope_224 32 img_size=32 patch_size=8 depth=2
vit_tiny_r_s16_p8_224 64 img_size=64
deit_tiny_distilled_patch16_224 32 img_size=32 patch_size=8 depth=2
beitv2_base_patch16_224 32 img_size=32 patch_size=8 depth=1
eva02_small_patch14_224 28 img_size=28 patch_size=7 depth=2
samvit_base_patch16 64 img_size=64 embed_dim=96 num_heads=4 depth=2
flexivit_small 32 img_size=32 patch_size=8 depth=2
convit_tiny 32 img_size=32 patch_size=8 depth=3
cait_xxs24_224 32 img_size=32 patch_size=8 depth=2
crossvit_tiny_240 240
tnt_s_patch16_224 64 img_size=64 depth=2
twins_pcpvt_small 64 img_size=64 embed_dims=(32,64,160,256) depths=(1,1,1,1)
twins_svt_small 64 img_size=64 embed_dims=(32,64,128,256) depths=(1,1,1,1)
pvt_v2_b0 64
poolformer_s12 64
poolformerv2_s12 64
convformer_s18 64
caformer_s18 64
maxvit_pico_rw_256 64 img_size=64
maxvit_rmlp_pico_rw_256 64 img_size=64
maxvit_tiny_tf_224 64 img_size=64 depths=(1,1,1,1) embed_dim=(32,64,96,128)
coatnet_pico_rw_224 64 img_size=64
coatnext_nano_rw_224 64 img_size=64
coat_lite_tiny 64 img_size=64
mvitv2_tiny 64 img_size=64
nest_tiny 64 img_size=64
visformer_tiny 224
volo_d1_224 64 img_size=64
focalnet_tiny_srf 64
gcvit_xxtiny 224
hiera_tiny_224 64 img_size=64 stages=(1,1,1,1)
swin_tiny_patch4_window7_224 64 img_size=64 depths=(1,1,1,1) window_size=4
swinv2_cr_tiny_ns_224 64 img_size=64 depths=(1,1,1,1)
xcit_tiny_12_p16_224 64 img_size=64 depth=2
pit_xs_224 64 img_size=64
levit_conv_128s 224
sequencer2d_s 64 img_size=64 layers=(1,1,1,1)
resmlp_12_224 64 img_size=64
gmixer_12_224 64 img_size=64
mixer_s16_224 64 img_size=64
botnet26t_256 64 img_size=64
halonet26t 256
lambda_resnet26t 128
bat_resnext26ts 256
nextvit_small 64
vitamin_small_224 64 img_size=64
"""


def by_name(group, listing, create):
    listed = True
    for line in listing.strip().splitlines():
        if line == "- neighbours":
            listed = False
            continue
        name, side, *arguments = line.split()
        arguments = {key: eval(value) for key, value in (argument.split("=") for argument in arguments)}
        build = lambda name=name, arguments=arguments: create(name, num_classes=CLASSES, **arguments)
        yield Network(f"{group}-{name}", group, build, images(int(side)), listed=listed)


# ---- transformers: name, type of the configuration, head, its arguments beyond the common ones


class TokenNet(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids):
        return self.model(input_ids=ids, use_cache=False).logits


class MaskedTokenNet(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids, attention_mask):
        return self.model(input_ids=ids, attention_mask=attention_mask).logits


class TranslationNet(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids, decoder_ids):
        return self.model(input_ids=ids, decoder_input_ids=decoder_ids, use_cache=False).logits


class PooledNet(nn.Module):
    """A body without a head: the mean of its last states, then a linear layer."""

    def __init__(self, model, argument, width):
        super().__init__()
        self.model, self.argument, self.head = model, argument, nn.Linear(width, CLASSES)

    def forward(self, x):
        return self.head(self.model(**{self.argument: x}).last_hidden_state.mean(1))


class InputNet(nn.Module):
    def __init__(self, model, argument):
        super().__init__()
        self.model, self.argument = model, argument

    def forward(self, x):
        return self.model(**{self.argument: x}).logits


COMMON = dict(
    vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
    max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2, num_labels=CLASSES,
)  # fmt: skip
GROUPED = dict(num_key_value_heads=2, head_dim=8)
EXPERTS = dict(num_local_experts=4, num_experts_per_tok=2, num_experts=4, moe_intermediate_size=32)
BATCHED = dict(experts_implementation="batched_mm")
LATENT = dict(
    n_routed_experts=4, q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=4, qk_nope_head_dim=8, v_head_dim=8,
    n_group=2, topk_group=1, first_k_dense_replace=1, num_key_value_heads=4,
)  # fmt: skip
T5 = dict(d_model=32, d_kv=8, d_ff=64, num_layers=2, num_decoder_layers=2, num_heads=4, decoder_start_token_id=0)
BART = dict(
    d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
    encoder_ffn_dim=64, decoder_ffn_dim=64, decoder_start_token_id=0,
)  # fmt: skip
PATCHES = dict(image_size=32, patch_size=8)
WINDOWS = dict(
    num_hidden_layers=...,
    num_attention_heads=...,
    patch_size=2,
    embed_dim=16,
    depths=[2, 2],
    num_heads=[2, 4],
    window_size=4,
)
STAGES = dict(num_hidden_layers=..., embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1])
WAVES = dict(
    conv_dim=(16, 16, 16), conv_stride=(4, 2, 2), conv_kernel=(8, 4, 4), num_feat_extract_layers=3,
    num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=4, classifier_proj_size=16,
)  # fmt: skip
CAUSAL = {
    "gpt_neox": {}, "llama": GROUPED, "qwen3": GROUPED, "mistral": GROUPED | dict(sliding_window=4),
    "opt": dict(ffn_dim=64, word_embed_proj_dim=32), "phi": {}, "mixtral": GROUPED | EXPERTS,
    "gpt2": dict(n_embd=32, n_layer=2, n_head=4, n_positions=64),
    "gpt_neo": dict(num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]], window_size=4),
    "gptj": dict(n_embd=32, n_layer=2, n_head=4, rotary_dim=4, n_positions=64),
    "gpt_bigcode": dict(n_embd=32, n_layer=2, n_head=4, n_positions=64),
    "codegen": dict(n_embd=32, n_layer=2, n_head=4, rotary_dim=4, n_positions=64, n_ctx=64),
    "openai-gpt": dict(n_embd=32, n_layer=2, n_head=4, n_positions=64), "bloom": dict(n_layer=2, n_head=4),
    "mpt": dict(d_model=32, n_layers=2, n_heads=4, max_seq_len=64), "falcon": dict(num_kv_heads=1), "gemma": GROUPED,
    "gemma2": GROUPED | dict(sliding_window=4), "gemma3_text": GROUPED | dict(sliding_window=4), "qwen2": GROUPED,
    "qwen2_moe": GROUPED | EXPERTS, "mixtral:batched": GROUPED | EXPERTS | BATCHED,
    "qwen2_moe:batched": GROUPED | EXPERTS | BATCHED, "qwen3_moe": GROUPED | EXPERTS, "olmo": {}, "olmo2": {},
    "olmoe": EXPERTS, "stablelm": dict(num_key_value_heads=4), "phi3": {}, "starcoder2": GROUPED, "cohere": GROUPED,
    "granite": GROUPED, "smollm3": GROUPED, "glm": GROUPED, "nemotron": GROUPED, "persimmon": {},
    "gpt_oss": GROUPED | EXPERTS,
    "deepseek_v3": EXPERTS | LATENT,
    "xglm": dict(d_model=32, num_layers=2, attention_heads=4, ffn_dim=64), "biogpt": {}, "mamba": dict(state_size=4),
    "mamba2": dict(state_size=8, num_heads=8, head_dim=8, n_groups=1, chunk_size=4),
    "rwkv": dict(attention_hidden_size=32),
}  # fmt: skip
MASKED = {
    "bert": {}, "roberta": {}, "distilbert": dict(dim=32, n_layers=2, n_heads=4, hidden_dim=64),
    "electra": dict(embedding_size=32), "albert": dict(embedding_size=16),
    "deberta": dict(relative_attention=True, pos_att_type=["c2p", "p2c"]),
    "deberta-v2": dict(relative_attention=True, pos_att_type=["c2p", "p2c"]), "mpnet": {}, "camembert": {},
    "xlm-roberta": {}, "convbert": dict(embedding_size=32), "squeezebert": dict(embedding_size=32), "fnet": {},
    "nystromformer": dict(num_landmarks=12, segment_means_seq_len=12), "roformer": dict(embedding_size=32),
    "mobilebert": dict(embedding_size=32, intra_bottleneck_size=32, true_hidden_size=32), "modernbert": {},
    "xlnet": dict(max_position_embeddings=..., d_model=32, n_layer=2, n_head=4, d_inner=64),
    "longformer": dict(attention_window=4),
    "funnel": dict(num_hidden_layers=..., d_model=32, n_head=4, d_head=8, d_inner=64, block_sizes=[1, 1]),
    "megatron-bert": {},
}  # fmt: skip
PAIRS = {
    "t5": T5, "mt5": T5 | dict(feed_forward_proj="gated-gelu"), "bart": BART, "mbart": BART, "marian": BART,
    "pegasus": BART, "blenderbot": BART, "led": BART | dict(attention_window=4),
}  # fmt: skip
IMAGES = {
    "vit": PATCHES, "resnet": STAGES, "deit": PATCHES | dict(architectures=["DeiTForImageClassification"]),
    "beit": PATCHES | dict(use_relative_position_bias=True), "swin": PATCHES | WINDOWS, "swinv2": PATCHES | WINDOWS,
    "convnext": dict(hidden_sizes=[16, 32], depths=[1, 1], num_stages=2),
    "convnextv2": dict(hidden_sizes=[16, 32], depths=[1, 1], num_stages=2), "dinov2": PATCHES, "ijepa": PATCHES,
    "vit_msn": PATCHES,
    "segformer": dict(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32], num_attention_heads=[1, 2, 2, 4], decoder_hidden_size=32,
    ),
    "mobilenet_v2": {},
    "mobilevit": dict(hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 8, 16, 16, 24, 32, 64], image_size=64),
    "poolformer": dict(hidden_sizes=[8, 16, 16, 32]), "regnet": STAGES, "bit": STAGES | dict(num_groups=8),
    "levit": dict(
        architectures=["LevitForImageClassification"], image_size=64, hidden_sizes=[32, 48, 64],
        num_attention_heads=[2, 3, 4], key_dim=[8, 8, 8],
    ),
    "pvt_v2": dict(hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 2, 2]),
    "focalnet": dict(
        image_size=32, patch_size=2, embed_dim=16, depths=[1, 1], focal_levels=[2, 2], focal_windows=[3, 3],
    ),
    "efficientnet": dict(image_size=64, width_coefficient=0.25, depth_coefficient=0.3, hidden_dim=320),
    "cvt": dict(embed_dim=[16, 32, 48], num_heads=[1, 2, 3], depth=[1, 2, 3]),
}  # fmt: skip
POOLED = {
    "clip_vision_model": ("pixel_values", PATCHES), "siglip_vision_model": ("pixel_values", PATCHES),
    "clip_text_model": ("input_ids", {}),
}  # fmt: skip


def from_transformers(kind, auto, arguments):
    """`kind` may carry a remark behind a colon, which only tells rows apart."""
    arguments = {key: value for key, value in {**COMMON, **arguments}.items() if value is not ...}
    more = {key: arguments.pop(key) for key in ["experts_implementation"] if key in arguments}
    return auto.from_config(transformers.AutoConfig.for_model(kind.split(":")[0], **arguments), **more)


def transformers_networks():
    text = [
        (CAUSAL, "causal", transformers.AutoModelForCausalLM, TokenNet, tokens),
        (MASKED, "masked", transformers.AutoModelForMaskedLM, MaskedTokenNet, padded_tokens),
        (MASKED, "classifier", transformers.AutoModelForSequenceClassification, MaskedTokenNet, padded_tokens),
        (PAIRS, "pairs", transformers.AutoModelForSeq2SeqLM, TranslationNet, token_pairs),
    ]
    for kinds, head, auto, wrapper, inputs in text:
        for kind, arguments in kinds.items():
            build = lambda k=kind, a=arguments, auto=auto, wrapper=wrapper: wrapper(from_transformers(k, auto, a))
            if head != "masked" or kind in ("bert", "distilbert", "electra", "albert", "modernbert"):
                suffix = {"causal": "", "pairs": ""}.get(head, f"-{head}")
                yield Network(f"hf-{kind.replace(':', '-')}{suffix}", "transformers", build, inputs)
    for kind, arguments in IMAGES.items():
        auto = transformers.AutoModelForImageClassification
        build = lambda k=kind, a=arguments, auto=auto: InputNet(from_transformers(k, auto, a), "pixel_values")
        side = arguments.get("image_size", 64)
        yield Network(f"hf-{kind}", "transformers", build, images(side))
    for kind, (argument, arguments) in POOLED.items():
        build = lambda k=kind, a=arguments, n=argument: PooledNet(
            from_transformers(k, transformers.AutoModel, a), n, 32
        )
        given = images(32) if argument == "pixel_values" else lambda rows: {"x": tokens(rows)["ids"]}
        yield Network(f"hf-{kind}", "transformers", build, given)
    for kind in ["wav2vec2", "hubert", "wavlm"]:
        auto = transformers.AutoModelForAudioClassification
        build = lambda k=kind, auto=auto: InputNet(from_transformers(k, auto, WAVES), "input_values")
        yield Network(f"hf-{kind}", "transformers", build, lambda rows: {"x": torch.randn(rows, 400)})
    spectrogram = BART | dict(num_mel_bins=16, max_source_positions=20)
    auto = transformers.AutoModelForAudioClassification
    build = lambda: InputNet(from_transformers("whisper", auto, spectrogram), "input_features")
    yield Network("hf-whisper-encoder", "transformers", build, lambda rows: {"x": torch.randn(rows, 16, 40)})
    build = lambda: PooledNet(
        transformers.T5EncoderModel(transformers.AutoConfig.for_model("t5", **{**COMMON, **T5})), "input_ids", 32
    )
    yield Network("hf-t5-encoder", "transformers", build, lambda rows: {"x": tokens(rows)["ids"]})


LISTED = re.compile(
    "torchvision-(vit|maxvit)-small|hf-(gpt_neox|llama|qwen3|mistral|opt|phi|roberta-classifier|distilbert-classifier|bert-masked|vit"
    "|resnet|t5|mixtral)|research-(nanogpt.*|wideresnet-28-10|preact.*|unet-(transposed|bilinear)|(lstm|gru)-(tokens|floats)|unrolled.*"
    "|siren|autoencoder.*|mlp-tied|mixture-(soft|top2)|squeeze.*|layer-scale|bare.*|activations|norm-.*)"
)
NETWORKS = [
    *by_name("torchvision", TORCHVISION, lambda name, **more: torchvision.models.get_model(name, weights=None, **more)),
    Network("torchvision-vit-small", "torchvision", torchvision_vit, images(32)),
    Network("torchvision-maxvit-small", "torchvision", torchvision_maxvit, images(64)),
    Network("torchvision-swin-small", "torchvision", torchvision_swin, images(64)),
    Network("torchvision-swin-v2-small", "torchvision", torchvision_swin_v2, images(64)),
    *by_name("timm", TIMM, lambda name, **more: timm.create_model(name, pretrained=False, **more)),
    *transformers_networks(),
    *(Network(f"research-{name}", "research", build, inputs, loss) for name, (build, inputs, loss) in RESEARCH.items()),
]
for network in NETWORKS:
    network.listed |= LISTED.fullmatch(network.name) is not None
