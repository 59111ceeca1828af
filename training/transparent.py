"""The two networks of transparent pictures (Zhang and Agrawala, "Transparent Image Layer Diffusion using Latent Transparency", 2024).

`Sharing` stands in for an attention of a UNet and changes it; `share` puts one into each attention of a UNet. `AlphaDecoder` tells from a picture and its latents
what is opaque and in which colour. Sizes are arguments: the published weights are one choice, `ordu-tiny-transparent` is another.
"""

import torch
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2D, get_down_block, get_up_block


class Low(torch.nn.Module):
    """The change of a linear layer: a product of two small matrices."""

    def __init__(self, base, rank):
        super().__init__()
        self.down = torch.nn.Linear(base.in_features, rank, bias=False)
        self.up = torch.nn.Linear(rank, base.out_features, bias=False)
        torch.nn.init.zeros_(self.up.weight)

    def changed(self, base, x):
        return torch.nn.functional.linear(x, base.weight + self.up.weight @ self.down.weight, base.bias)


class Sharing(torch.nn.Module):
    """An attention with changes, and what its frames tell each other afterwards. One frame tells itself."""

    def __init__(self, base, rank):
        super().__init__()
        self.base = [base]  # not one of its parameters
        width, one = base.to_k.out_features, torch.nn.ModuleList
        self.to_q_lora = one([Low(base.to_q, rank)])
        self.to_k_lora = one([Low(base.to_k, rank)])
        self.to_v_lora = one([Low(base.to_v, rank)])
        self.to_out_lora = one([Low(base.to_out[0], rank)])
        for part in "iqkvo":
            setattr(self, f"temporal_{part}", torch.nn.Linear(width, width))
        self.temporal_n = torch.nn.LayerNorm(width, eps=1e-6)
        torch.nn.init.zeros_(self.temporal_o.weight)
        torch.nn.init.zeros_(self.temporal_o.bias)

    def attend(self, q, k, v):
        heads = self.base[0].heads
        q, k, v = (y.unflatten(-1, (heads, -1)).transpose(1, 2) for y in (q, k, v))
        return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def forward(self, hidden_states, encoder_hidden_states=None, attention_mask=None, **_):
        base, to = self.base[0], hidden_states if encoder_hidden_states is None else encoder_hidden_states
        attended = self.attend(
            self.to_q_lora[0].changed(base.to_q, hidden_states),
            self.to_k_lora[0].changed(base.to_k, to),
            self.to_v_lora[0].changed(base.to_v, to),
        )
        changed = hidden_states + self.to_out_lora[0].changed(base.to_out[0], attended)
        batch, tokens, _ = changed.shape
        told = self.temporal_i(self.temporal_n(changed)).flatten(0, 1).unsqueeze(1)  # each token is a sequence of as many as there are frames
        told = self.temporal_o(self.attend(self.temporal_q(told), self.temporal_k(told), self.temporal_v(told)))
        return changed + told.view(batch, tokens, -1) - hidden_states  # the block adds its own input


class Hookers(torch.nn.Module):
    """All changes of a UNet, under the names of the published weights: `hookers.layers.N.…`."""

    def __init__(self, layers):
        super().__init__()
        self.hookers = torch.nn.Module()
        self.hookers.layers = torch.nn.ModuleList(layers)


def share(unet, rank):
    """Puts changes into every attention. They are numbered down, up, and the middle last; of each block attention to itself, then to the text."""
    layers = []
    for part in [*unet.down_blocks, *unet.up_blocks, unet.mid_block]:
        for transformer in getattr(part, "attentions", None) or []:
            for block in transformer.transformer_blocks:
                for name in ("attn1", "attn2"):
                    layers.append(Sharing(getattr(block, name), rank))
                    setattr(block, name, layers[-1])
    return Hookers(layers)


class AlphaDecoder(torch.nn.Module):
    """UNet over a picture (0..1) that sees its latents on the way down, where it is as small as they are. Out come alpha and colour."""

    def __init__(self, widths=(32, 32, 64, 128, 256, 512, 512), layers=2, attending=3, latent_channels=4, level=3):
        super().__init__()
        self.level = level  # where the picture is as small as the latents
        kinds = dict(resnet_eps=1e-5, resnet_act_fn="silu", resnet_groups=4, attention_head_dim=8, resnet_time_scale_shift="default", dropout=0.0)
        attends = [i >= len(widths) - attending for i in range(len(widths))]
        self.conv_in = torch.nn.Conv2d(3, widths[0], 3, padding=1)
        self.latent_conv_in = torch.nn.Conv2d(latent_channels, widths[level - 1], 1)
        self.down_blocks, self.up_blocks = torch.nn.ModuleList(), torch.nn.ModuleList()
        before = widths[0]
        for i, width in enumerate(widths):
            kind = "AttnDownBlock2D" if attends[i] else "DownBlock2D"
            self.down_blocks.append(get_down_block(
                kind, num_layers=layers, in_channels=before, out_channels=width, temb_channels=None, add_downsample=i + 1 < len(widths),
                downsample_padding=1, downsample_type="conv", **kinds,
            ))
            before = width
        self.mid_block = UNetMidBlock2D(
            in_channels=widths[-1], temb_channels=None, dropout=0.0, resnet_eps=1e-5, resnet_act_fn="silu", output_scale_factor=1,
            resnet_time_scale_shift="default", attention_head_dim=8, resnet_groups=4, attn_groups=None, add_attention=True,
        )
        upwards = widths[::-1]
        for i, width in enumerate(upwards):
            kind = "AttnUpBlock2D" if attends[-1 - i] else "UpBlock2D"
            self.up_blocks.append(get_up_block(
                kind, num_layers=layers + 1, in_channels=upwards[min(i + 1, len(widths) - 1)], out_channels=width, prev_output_channel=before,
                temb_channels=None, add_upsample=i + 1 < len(widths), upsample_type="conv", **kinds,
            ))
            before = width
        self.conv_norm_out = torch.nn.GroupNorm(4, widths[0], eps=1e-5)
        self.conv_out = torch.nn.Conv2d(widths[0], 4, 3, padding=1)

    def forward(self, picture, latents):
        x, beside = self.conv_in(picture), self.latent_conv_in(latents)
        kept = (x,)
        for i, block in enumerate(self.down_blocks):
            x, more = block(hidden_states=x + beside if i == self.level else x, temb=None)
            kept += more
        x = self.mid_block(x, None)
        for block in self.up_blocks:
            count = len(block.resnets)
            kept, own = kept[:-count], kept[-count:]
            x = block(x, own, None)
        return self.conv_out(torch.nn.functional.silu(self.conv_norm_out(x)))


def turned(x, turn):
    """The eight ways to lay a picture down: 0 to 3 quarter turns, and the same of its mirror image."""
    return torch.rot90(torch.flip(x, (3,)) if turn >= 4 else x, turn % 4, (2, 3))


def turned_back(x, turn):
    x = torch.rot90(x, -(turn % 4), (2, 3))
    return torch.flip(x, (3,)) if turn >= 4 else x


@torch.no_grad()
def decode(network, picture, latents):
    """Alpha and colour, (n, 4, h, w) in 0..1: the (lower) median of eight looks."""
    looks = [turned_back(network(turned(picture, turn), turned(latents, turn)).clamp(0, 1), turn) for turn in range(8)]
    return torch.stack(looks).median(dim=0).values
