//! What the ComfyUI of the tests has: the recorded nodes, add-ons by their documentation, and files.

use ordu_engine::Baseline;
use ordu_engine::remote::comfyui::{ComfyModel, ModelFiles};
use serde_json::{Value, json};

const RECORDED: &str = include_str!("../../../testdata/comfyui/object-info.json");

/// Nodes of add-ons that the recorded ComfyUI lacks, as their pages describe them:
/// spinagon/ComfyUI-seamless-tiling and Jcd1230/rembg-comfyui-node.
fn addons() -> Value {
    let tiling = json!([["enable", "x_only", "y_only", "disable"], {}]);
    let copy = json!([["Make a copy", "Modify in place"], {}]);
    json!({
        "SeamlessTile": {
            "input": {"required": {"model": ["MODEL"], "tiling": tiling, "copy_model": copy}},
            "output": ["MODEL"],
        },
        "MakeCircularVAE": {
            "input": {"required": {"vae": ["VAE"], "tiling": tiling, "copy_vae": copy}},
            "output": ["VAE"],
        },
        "Image Remove Background (rembg)": {
            "input": {"required": {"image": ["IMAGE"]}},
            "output": ["IMAGE"],
        },
    })
}

fn files(info: &mut Value, class: &str, input: &str, files: &[&str]) {
    let listed = &mut info[class]["input"]["required"][input];
    if listed[0].is_array() {
        listed[0] = json!(files);
    } else {
        listed[1]["options"] = json!(files);
    }
}

/// The recorded nodes without any file.
pub(crate) fn recorded() -> Value {
    serde_json::from_str(RECORDED).unwrap()
}

const CHECKPOINTS: &[&str] = &[
    "sd15.safetensors",
    "inpaint.safetensors",
    "sd2.safetensors",
    "xl/sdxl.safetensors",
    "stage_c.safetensors",
    "stage_b.safetensors",
    "flux.safetensors",
    "somebody.safetensors",
    "custom.safetensors",
];

const CONTROL: &[&str] = &[
    "diff_control_sd15_canny_fp16.safetensors",
    "diff_control_sd15_hed_fp16.safetensors",
    "diff_control_sd15_depth_fp16.safetensors",
    "control_normal_fp16.safetensors",
    "control_v11p_sd15_normalbae.pth",
    "control_openpose_fp16.safetensors",
    "control_seg_fp16.safetensors",
    "control_scribble_fp16.safetensors",
    "control_mlsd_fp16.safetensors",
    "control_v11p_sd15_lineart.pth",
    "control_v11p_sd15s2_lineart_anime.pth",
    "ioclab_sd15_recolor.safetensors",
    "control_v11f1e_sd15_tile.pth",
    "control_v1p_sd15_qrcode_monster_v2.safetensors",
    "control_v1p_sdxl_qrcode_monster.safetensors",
];

const UPSCALERS: &[&str] = &[
    "RealESRGAN_x4plus.pth",
    "RealESRGAN_x2plus.pth",
    "RealESRGAN_x4plus_anime_6B.pth",
    "4x_NMKD-Siax_200k.pth",
    "4x-AnimeSharp.pth",
    "4xNomos8kSC.pth",
    "4xLSDIRplus.pth",
    "4xNomosWebPhoto_RealPLKSR.safetensors",
    "4xNomos2_realplksr_dysample.safetensors",
    "4xNomos2_hq_dat2.safetensors",
    "2x_ModernSpanimationV1.pth",
];

const FIXERS: &[&str] = &[
    "GFPGANv1.4.pth",
    "GFPGANv1.3.pth",
    "codeformer.pth",
    "RestoreFormer.pth",
];

/// Everything.
pub(crate) fn full() -> Value {
    let mut info = recorded();
    for (class, node) in addons().as_object().unwrap() {
        info[class] = node.clone();
    }
    for (class, input, listed) in [
        ("CheckpointLoaderSimple", "ckpt_name", CHECKPOINTS),
        ("unCLIPCheckpointLoader", "ckpt_name", CHECKPOINTS),
        (
            "LoraLoader",
            "lora_name",
            &["one.safetensors", "horde/two_22.safetensors"],
        ),
        ("ControlNetLoader", "control_net_name", CONTROL),
        ("DiffControlNetLoader", "control_net_name", CONTROL),
        ("UpscaleModelLoader", "model_name", UPSCALERS),
        ("FaceRestoreModelLoader", "model_name", FIXERS),
        (
            "UNETLoader",
            "unet_name",
            &["qwen.safetensors", "z.safetensors"],
        ),
        (
            "CLIPLoader",
            "clip_name",
            &["qwen_te.safetensors", "z_te.safetensors"],
        ),
        (
            "VAELoader",
            "vae_name",
            &["qwen_vae.safetensors", "ae.safetensors"],
        ),
    ] {
        files(&mut info, class, input, listed);
    }
    info
}

fn checkpoint(name: &str, baseline: Baseline) -> ComfyModel {
    ComfyModel {
        name: name.to_owned(),
        baseline,
        native: 0,
        inpainting: name == "inpaint",
        files: ModelFiles::Checkpoint(format!("{name}.safetensors")),
    }
}

fn split(name: &str, baseline: Baseline, vae: &str) -> ComfyModel {
    ComfyModel {
        files: ModelFiles::Split {
            diffusion: format!("{name}.safetensors"),
            text_encoder: format!("{name}_te.safetensors"),
            vae: vae.to_owned(),
        },
        ..checkpoint(name, baseline)
    }
}

/// One model of each family, one whose file is missing, and a Stable Cascade of which half is.
pub(crate) fn models() -> Vec<ComfyModel> {
    let cascade = |name: &str, stage_b: &str| ComfyModel {
        files: ModelFiles::Cascade {
            stage_c: "stage_c.safetensors".to_owned(),
            stage_b: stage_b.to_owned(),
        },
        ..checkpoint(name, Baseline::StableCascade)
    };
    vec![
        checkpoint("sd15", Baseline::StableDiffusion1),
        checkpoint("inpaint", Baseline::StableDiffusion1),
        checkpoint("sd2", Baseline::StableDiffusion2),
        checkpoint("sdxl", Baseline::StableDiffusionXl),
        cascade("cascade", "stage_b.safetensors"),
        cascade("half", "absent.safetensors"),
        checkpoint("flux", Baseline::FluxSchnell),
        split("qwen", Baseline::QwenImage, "qwen_vae.safetensors"),
        split("z", Baseline::ZImageTurbo, "ae.safetensors"),
        checkpoint("custom", Baseline::Custom),
        checkpoint("absent", Baseline::StableDiffusion1),
    ]
}
