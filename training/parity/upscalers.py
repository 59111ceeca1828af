"""Makes the numbers that the upscalers of `ordu-engine` are compared with: a tiny random network of spandrel's, under the names of new files,
and what it makes of a picture at ×4, at ×2 (behind a pixel-unshuffle), and at ×2 (with one step of enlarging instead of two). Then DAT, SPAN and RealPLKSR, with
and without DySample and layer normalisation, whose weights both sides grow from the names of tensors (`grown.py`).

    python upscalers.py [folder]        # default: ../../crates/ordu-engine/testdata

Needs torch and spandrel (with what it imports). Takes a second; same numbers each time.
"""

import json
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from spandrel.architectures.DAT import DAT
from spandrel.architectures.ESRGAN import ESRGANArch
from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet
from spandrel.architectures.PLKSR import RealPLKSR
from spandrel.architectures.SPAN import SPAN

from grown import fill_all

HERE = Path(__file__).resolve().parent
OUT = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parents[1] / "crates" / "ordu-engine" / "testdata"
torch.set_num_threads(1)
torch.set_grad_enabled(False)
WIDTH, BLOCKS = 8, 1
KEPT = ("init_pos", "rpe_biases")  # follow from sizes
NEW = {"0": "conv_first", f"1.sub.{BLOCKS}": "conv_body", "3": "conv_up1", "6": "conv_up2", "8": "conv_hr", "10": "conv_last"}


def renamed(state):
    """From the names inside spandrel, which are those of old files, to those of new files."""
    names = {}
    for name, value in state.items():
        place, kind = name.removeprefix("model.").rsplit(".", 1)
        if "RDB" in place:
            place = place.replace("1.sub.", "body.").replace("RDB", "rdb").removesuffix(".0")
        else:
            place = NEW[place]
        names[f"{place}.{kind}"] = value
    return names


def randomise(module, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        scale = 1.0 / math.sqrt(parameter[0].numel()) if parameter.ndim > 1 else 0.1
        parameter.copy_((torch.randn(parameter.shape, generator=generator) * scale).half().float())
    return module.eval()


def main():
    net = randomise(RRDBNet(num_filters=WIDTH, num_blocks=BLOCKS, scale=4), 60)
    state = renamed(net.state_dict())
    picture = torch.rand((1, 3, 11, 14), generator=torch.Generator().manual_seed(61))
    io = {"picture": picture, "x4": net(picture)}

    shuffled = randomise(RRDBNet(in_nc=12, num_filters=WIDTH, num_blocks=BLOCKS, scale=4, shuffle_factor=2), 62)
    first = {name: value for name, value in shuffled.state_dict().items() if name.startswith("model.0.")}
    shuffled.load_state_dict(net.state_dict() | first)
    io["shuffled.x2"] = shuffled(picture)
    io |= {name.replace("model.0", "shuffled.conv_first"): value for name, value in first.items()}

    # Old files of ×2 have one step of enlarging: 3, then 5 and 7 behind it.
    single = RRDBNet(num_filters=WIDTH, num_blocks=BLOCKS, scale=2).eval()
    moves = {"5": "8", "7": "10"}
    old = net.state_dict()
    for name in single.state_dict():
        _, place, rest = name.split(".", 2)
        single.state_dict()[name].copy_(old[f"model.{moves.get(place, place)}.{rest}"])
    io["single.x2"] = single(picture)

    # The names are right if spandrel recognises them and comes to the same.
    for weights, expected in [(state, io["x4"]), (state | {"conv_first.weight": io["shuffled.conv_first.weight"],
                                                           "conv_first.bias": io["shuffled.conv_first.bias"]}, io["shuffled.x2"])]:
        assert torch.equal(ESRGANArch().load(dict(weights)).model.eval()(picture), expected)

    shapes, others = {}, {}
    for name, other in (
        ("span", SPAN(num_in_ch=3, num_out_ch=3, feature_channels=6, upscale=2)),
        ("span-plain", SPAN(num_in_ch=3, num_out_ch=3, feature_channels=6, upscale=2, norm=False)),
        ("dat", DAT(img_size=8, embed_dim=64, split_size=[2, 4], depth=[3, 2], num_heads=[2, 4], expansion_factor=2, upscale=4)),
        ("plksr", RealPLKSR(dim=8, upscaling_factor=4, n_blocks=2, kernel_size=7, split_ratio=0.5)),
        ("plksr-dysample", RealPLKSR(dim=8, upscaling_factor=2, n_blocks=1, kernel_size=5, split_ratio=0.5, dysample=True, layer_norm=True)),
    ):
        kept = {key: value.clone() for key, value in other.state_dict().items() if key.endswith(KEPT)}
        other, shapes[name] = fill_all(other, name)
        other.load_state_dict(kept, strict=False)
        if name == "span":  # which spreads colours so far that single precision would drown
            for key in ("conv_1.conv.0.weight", "conv_1.sk.weight"):
                other.state_dict()[key].div_(256)
        others |= {f"{name}/{key}": value for key, value in kept.items()}
        others[name] = other(picture)

    folder = OUT / "upscaler"
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half().contiguous() for name, value in state.items()}, folder / "model.safetensors")
    save_file({name: value.contiguous() for name, value in io.items()}, folder / "io.safetensors")
    save_file({name: value.contiguous() for name, value in others.items()}, folder / "others.safetensors")
    (folder / "others.json").write_text(json.dumps(shapes, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
