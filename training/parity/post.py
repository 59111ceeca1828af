"""Makes the numbers that fixers of faces and the removal of backgrounds are compared with: networks of backgroundremover, spandrel and facexlib with
narrow layers, mattes of pymatting, faces aligned and pasted by facexlib and OpenCV.

    python post.py [folder]        # default: ../../crates/ordu-engine/testdata

Needs torch, torchvision, spandrel, and without what they depend on: spandrel_extra_arches, facexlib, backgroundremover, pymatting (numba, scipy),
opencv-python-headless. No weights are stored: both sides grow them from the names of tensors (`grown.py`). Same numbers each time.
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import scipy.ndimage
import torch
import torch.nn.functional as F
from backgroundremover.u2net.u2net import RSU4, RSU4F, RSU5, RSU6, RSU7
from facexlib.detection.retinaface_net import FPN, SSH, make_bbox_head, make_class_head, make_landmark_head
from facexlib.detection.retinaface import RetinaFace, generate_config
from facexlib.detection.retinaface_utils import PriorBox, decode, decode_landm, py_cpu_nms
from facexlib.parsing.parsenet import ParseNet
from facexlib.utils.face_restoration_helper import FaceRestoreHelper
from pymatting import estimate_alpha_cf, estimate_foreground_ml
from safetensors.torch import save_file
from spandrel.architectures.GFPGAN import GFPGAN
from spandrel.architectures.RestoreFormer import RestoreFormer
from spandrel_extra_arches.architectures.CodeFormer.__arch.codeformer import CodeFormer, Fuse_sft_block, TransformerSALayer, VQAutoEncoder
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.resnet import Bottleneck

from grown import fill_all

HERE = Path(__file__).resolve().parent
OUT = (Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parents[1] / "crates" / "ordu-engine" / "testdata") / "post"
torch.set_num_threads(1)
torch.set_grad_enabled(False)


def noise(seed, *shape):
    """Numbers in −1…1 that fit into 16 bits."""
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1).half().float()


def small(x):
    """A part of a large result that is enough to compare."""
    return x[..., ::2, ::2]


# ------------------------------------------------------------------------------------------------------------ backgrounds

class Nested(nn.Module):
    """U²-Net, or with `fine` IS-Net, with narrow layers: other widths than the published ones, the same blocks and names."""

    def __init__(self, wide, narrow, fine):
        super().__init__()
        if fine:
            self.conv_in = nn.Conv2d(3, wide, 3, stride=2, padding=1)
        self.stage1 = RSU7(wide if fine else 3, narrow, wide)
        for number, block in ((2, RSU6), (3, RSU5), (4, RSU4), (5, RSU4F), (6, RSU4F)):
            setattr(self, f"stage{number}", block(wide, narrow, wide))
        for number, block in ((5, RSU4F), (4, RSU4), (3, RSU5), (2, RSU6), (1, RSU7)):
            setattr(self, f"stage{number}d", block(2 * wide, narrow, wide))
        for number in range(1, 7):
            setattr(self, f"side{number}", nn.Conv2d(wide, 1, 3, padding=1))
        if not fine:
            self.outconv = nn.Conv2d(6, 1, 1)

    def forward(self, x):
        like = lambda small, large: F.interpolate(small, size=large.shape[2:], mode="bilinear", align_corners=False)
        whole, down = x, []
        if hasattr(self, "conv_in"):
            x = self.conv_in(x)
        for number in range(1, 7):
            x = getattr(self, f"stage{number}")(x)
            down.append(x)
            x = F.max_pool2d(x, 2, stride=2, ceil_mode=True)
        up = down[5]
        sides = [self.side6(up)]
        for number in range(5, 0, -1):
            up = getattr(self, f"stage{number}d")(torch.cat((like(up, down[number - 1]), down[number - 1]), 1))
            sides.insert(0, getattr(self, f"side{number}")(up))
        if hasattr(self, "conv_in"):
            return like(sides[0], whole)
        return self.outconv(torch.cat([like(side, sides[0]) for side in sides], 1))


def backgrounds(io, shapes):
    x = noise(1, 1, 3, 90, 75)
    io["picture"] = x
    for kind, fine in (("u2net", False), ("isnet", True)):
        net, shapes[kind] = fill_all(Nested(6, 3, fine), kind)
        io[kind] = net(x)


def mattes(io):
    """A soft disc over a ground, a mask that is off, what pymatting makes of them. Thresholds and erosion as in worker.md § 2.13."""
    ys, xs = np.mgrid[0:72, 0:90].astype(np.float64)
    distance = np.hypot(xs - 44, ys - 36)
    share = np.clip((26 - distance) / 5 + 0.5, 0, 1)[..., None]
    ground = np.stack([60 + xs, 90 + 0.5 * ys, 200 - xs], -1)
    thing = np.stack([220 - ys, 60 + 0.3 * xs, 40 + 0 * xs], -1)
    rng = np.random.default_rng(3)
    picture = np.clip(np.rint(share * thing + (1 - share) * ground + rng.normal(0, 1.5, (72, 90, 3))), 0, 255).astype(np.uint8)
    mask = np.clip(np.rint(255 * np.clip((28 - np.hypot(xs - 46, ys - 35)) / 2 + 0.5, 0, 1)), 0, 255).astype(np.uint8)
    square = np.ones((10, 10))
    shown = scipy.ndimage.binary_erosion(mask >= 240, structure=square)
    hidden = scipy.ndimage.binary_erosion(mask <= 10, structure=square, border_value=1)
    trimap = np.full(mask.shape, 0.5)
    trimap[shown], trimap[hidden] = 1.0, 0.0
    alpha = estimate_alpha_cf(picture / 255.0, trimap, cg_kwargs=dict(rtol=1e-10))
    foreground = estimate_foreground_ml(picture / 255.0, np.rint(alpha * 255) / 255)
    io["matte.picture"] = torch.from_numpy(picture)
    io["matte.mask"] = torch.from_numpy(mask)
    io["matte.alpha"] = torch.from_numpy(np.rint(alpha * 255).astype(np.uint8))
    io["matte.foreground"] = torch.from_numpy(np.rint(foreground * 255).astype(np.uint8))


# ------------------------------------------------------------------------------------------------------------------ faces

class Backbone(nn.Module):
    """ResNet-50 with narrow and few layers."""

    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = width
        for number, (planes, blocks) in enumerate(((2, 2), (3, 1), (4, 2), (5, 1)), 1):
            stride = 1 if number == 1 else 2
            shortcut = nn.Sequential(nn.Conv2d(inputs, planes * 4, 1, stride, bias=False), nn.BatchNorm2d(planes * 4))
            layers = [Bottleneck(inputs, planes, stride, shortcut)] + [Bottleneck(planes * 4, planes) for _ in range(blocks - 1)]
            setattr(self, f"layer{number}", nn.Sequential(*layers))
            inputs = planes * 4


def detector(channels):
    net = RetinaFace.__new__(RetinaFace)
    nn.Module.__init__(net)
    net.backbone, net.phase = "Resnet50", "test"
    net.body = IntermediateLayerGetter(Backbone(4), {"layer2": 1, "layer3": 2, "layer4": 3})
    net.fpn = FPN([12, 16, 20], channels)
    net.ssh1, net.ssh2, net.ssh3 = (SSH(channels, channels) for _ in range(3))
    net.ClassHead = make_class_head(3, channels)
    net.BboxHead = make_bbox_head(3, channels)
    net.LandmarkHead = make_landmark_head(3, channels)
    return net


def detection(io, shapes):
    io["seen"] = noise(4, 1, 3, 50, 70) * 64
    for channels in (8, 68):
        net, shapes[f"retinaface{channels}"] = fill_all(detector(channels), f"retinaface{channels}")
        for name, value in zip(("boxes", "classes", "landmarks"), net(io["seen"])):
            io[f"retinaface{channels}.{name}"] = value[0]
    # What a detector might say of a picture of 96x64 pixels, and the faces in it.
    height, width = 64, 96
    priors = PriorBox(generate_config("resnet50"), image_size=(height, width)).forward()
    raw = noise(5, len(priors), 4) * 2, torch.rand((len(priors), 2), generator=torch.Generator().manual_seed(6)), noise(7, len(priors), 10) * 4
    raw[1][:, 1] = raw[1][:, 1] ** 0.1
    variances = [0.1, 0.2]
    boxes = decode(raw[0], priors, variances) * torch.tensor([width, height] * 2)
    marks = decode_landm(raw[2], priors, variances) * torch.tensor([width, height] * 5)
    sure = np.where(raw[1][:, 1].numpy() > 0.97)[0]
    order = sure[raw[1][sure, 1].numpy().argsort()[::-1]]
    kept = [int(i) for i in py_cpu_nms(np.hstack((boxes[order], raw[1][order, 1:])).astype(np.float32), 0.4)]
    order = order[kept]
    for name, value in zip(("boxes", "classes", "landmarks"), raw):
        io[f"said.{name}"] = value
    io["faces"] = torch.cat([raw[1][order, 1:], boxes[order], marks[order]], 1)


def fixers(io, shapes):
    face = noise(8, 1, 3, 32, 32)
    io["face"] = face
    net, shapes["gfpgan"] = fill_all(GFPGAN(out_size=32, num_style_feat=12, channel_multiplier=2, num_mlp=1, narrow=1 / 64), "gfpgan")
    io["gfpgan"] = net(face, randomize_noise=False)[0]

    net = RestoreFormer(n_embed=24, embed_dim=8, ch=32, ch_mult=(1, 1, 2), num_res_blocks=2, attn_resolutions=(8,), resolution=32, z_channels=16)
    net, shapes["restoreformer"] = fill_all(net, "restoreformer")
    io["restoreformer"] = net(face)[0]

    large = noise(9, 1, 3, 64, 64)
    io["face.large"] = large
    net, shapes["codeformer"] = fill_all(codeformer(), "codeformer")
    for fidelity in (0.0, 0.5, 1.0):
        io[f"codeformer.{fidelity:g}"] = small(net(large, weight=fidelity)[0])


def codeformer():
    """CodeFormer with three sizes instead of six, and narrow layers; its forward pass is that of the class."""
    net = CodeFormer.__new__(CodeFormer)
    VQAutoEncoder.__init__(net, 64, 32, [1, 1, 2], "nearest", 2, [16], 20, emb_dim=256)
    width, layers = 16, 2
    net.connect_list, net.n_layers, net.dim_embd = ["32", "64"], layers, width
    net.position_emb = nn.Parameter(torch.zeros(256, width))
    net.feat_emb = nn.Linear(256, width)
    net.ft_layers = nn.Sequential(*[TransformerSALayer(embed_dim=width, nhead=8, dim_mlp=24) for _ in range(layers)])
    net.idx_pred_layer = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 20, bias=False))
    net.fuse_encoder_block = {"64": 2, "32": 5}
    net.fuse_generator_block = {"32": 9, "64": 12}
    net.fuse_convs_dict = nn.ModuleDict({size: Fuse_sft_block(32, 32) for size in net.connect_list})
    return net


def parsing(io, shapes):
    net = ParseNet(in_size=32, out_size=32, min_feat_size=8, base_ch=4, parsing_ch=19, res_depth=2, ch_range=[4, 10])
    net, shapes["parsenet"] = fill_all(net, "parsenet")
    io["parsenet"] = small(net(io["face"])[0])


def placing(io):
    """A picture with landmarks: the face aligned, and another one pasted in its place."""
    rng = np.random.default_rng(11)
    rough = rng.uniform(0, 255, (9, 12, 3)).astype(np.float32)
    picture = np.clip(cv2.resize(rough, (160, 120), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)  # blue first
    template = np.array([[192.98138, 239.94708], [318.90277, 240.1936], [256.63416, 314.01935], [201.26117, 371.41043], [313.08905, 371.15118]])
    turn = np.array([[0.20, -0.05], [0.05, 0.20]])
    landmarks = template @ turn.T + np.array([40.0, -5.0]) + rng.normal(0, 0.6, (5, 2))
    helper = FaceRestoreHelper.__new__(FaceRestoreHelper)
    helper.upscale_factor, helper.face_size, helper.face_template = 1, (512, 512), template
    helper.pad_blur, helper.use_parse, helper.device = False, True, "cpu"
    helper.clean_all()
    helper.input_img = picture
    helper.all_landmarks_5 = [landmarks]
    helper.align_warp_face()
    helper.get_inverse_affine()
    io["place.picture"] = torch.from_numpy(picture[..., ::-1].copy())
    io["place.landmarks"] = torch.from_numpy(landmarks.astype(np.float32))
    io["place.matrix"] = torch.from_numpy(helper.affine_matrices[0].astype(np.float32))
    upright = helper.cropped_faces[0][..., ::-1]
    io["place.upright"] = torch.from_numpy(upright[8::16, 8::16].copy())
    # The mended face: the upright one with its colours turned round. The parser: skin in an oval.
    helper.add_restored_face(255 - helper.cropped_faces[0])
    ys, xs = np.mgrid[0:512, 0:512]
    oval = ((xs - 256) / 150) ** 2 + ((ys - 270) / 190) ** 2 < 1
    kinds = torch.zeros(1, 19, 512, 512)
    kinds[0, 1], kinds[0, 17] = torch.from_numpy(oval.astype(np.float32)), torch.from_numpy((~oval).astype(np.float32))
    helper.face_parse = lambda _: (kinds, None)
    pasted = helper.paste_faces_to_input_image()
    io["place.pasted"] = torch.from_numpy(pasted[..., ::-1].copy())


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    io, shapes = {}, {}
    backgrounds(io, shapes)
    mattes(io)
    detection(io, shapes)
    fixers(io, shapes)
    parsing(io, shapes)
    placing(io)
    for name in ("picture", "seen", "face", "face.large"):
        io[name] = io[name].half()
    save_file({name: value.contiguous() for name, value in io.items()}, OUT / "io.safetensors")
    (OUT / "shapes.json").write_text(json.dumps(shapes, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
