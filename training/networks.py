"""The three networks of `ordu-tiny` (the classes of Stable Diffusion 1.5 with smaller numbers), its tokenizer and its noise schedule."""

from diffusers import AutoencoderKL, UNet2DConditionModel
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel

import pictures

CONTEXT = 24
TEXT_WIDTH = 96
LATENT_CHANNELS = 8
LATENT_SIZE = 8  # factor 8, as in the real thing
PAD, BOS, UNK, EOS = 0, 1, 2, 3
SPECIAL = ["<pad>", "<bos>", "<unk>", "<eos>"]

SCHEDULE = dict(
    num_train_timesteps=1000,
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    prediction_type="v_prediction",
    rescale_betas_zero_snr=True,
    timestep_spacing="trailing",
    clip_sample=False,
    set_alpha_to_one=True,
    steps_offset=0,
)


def make_tokenizer():
    """Lower case, split at white space and punctuation, one id per word; <bos> ... <eos>, cut and padded to CONTEXT ids."""
    words = SPECIAL + pictures.vocabulary()
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", BOS), ("<eos>", EOS)]
    )
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.enable_truncation(CONTEXT)
    tokenizer.enable_padding(length=CONTEXT, pad_id=PAD, pad_token="<pad>")
    return tokenizer


def make_text_encoder():
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=len(SPECIAL) + len(pictures.vocabulary()),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        hidden_act="quick_gelu",
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    ))


def make_unet(channels=(80, 96)):
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=channels,
        layers_per_block=1,
        norm_num_groups=16,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,  # in diffusers, for this class: the number of heads
    )


def make_autoencoder(channels=(16, 32, 48, 64)):
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=pictures.SIZE,
        scaling_factor=1.0,  # set from the measured spread at export
        force_upcast=False,
    )


def parameters_of(module):
    return sum(p.numel() for p in module.parameters())
