//! The classes of nodes that pipelines are made of, with their inputs and outputs as types.
//!
//! # Source
//! `/object_info` of a ComfyUI; `testdata/comfyui/object-info.json` is a part of it.

use super::graph::{
    Clip, ClipVision, Conditioning, ControlNet, FaceModel, Graph, Guider, Image, Latent, Link,
    Mask, Model, Noise, SamplerKind, Seen, Sigmas, Upload, UpscaleModel, Vae,
};

/// The parts of a checkpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    /// The diffusion model.
    pub model: Link<Model>,
    /// The text encoder.
    pub clip: Link<Clip>,
    /// The autoencoder.
    pub vae: Link<Vae>,
}

/// Both prompts, encoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prompts {
    /// What to draw.
    pub positive: Link<Conditioning>,
    /// What to keep away from.
    pub negative: Link<Conditioning>,
}

/// What a sampler needs besides model, prompts and latents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    /// Decides the noise.
    pub seed: u64,
    /// Steps, at least 1.
    pub steps: u32,
    /// Guidance.
    pub cfg: f32,
    /// The sampler's name there.
    pub sampler: &'static str,
    /// The scheduler's name there.
    pub scheduler: &'static str,
    /// How much of the schedule is run, 0 to 1.
    pub denoise: f32,
}

/// The part of a walk between two steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    /// The first step.
    pub start: u32,
    /// The step before which it ends.
    pub end: u32,
    /// Whether noise is added first.
    pub add_noise: bool,
    /// Whether the noise that is left is kept.
    pub keep_noise: bool,
}

impl Graph {
    pub(super) fn checkpoint(&mut self, file: &str) -> Parts {
        let node = self.node("CheckpointLoaderSimple").set("ckpt_name", file);
        Parts {
            model: node.out(0),
            clip: node.out(1),
            vae: node.out(2),
        }
    }

    /// A checkpoint with a vision tower beside the usual parts.
    pub(super) fn unclip_checkpoint(&mut self, file: &str) -> (Parts, Link<ClipVision>) {
        let node = self.node("unCLIPCheckpointLoader").set("ckpt_name", file);
        let parts = Parts {
            model: node.out(0),
            clip: node.out(1),
            vae: node.out(2),
        };
        (parts, node.out(3))
    }

    pub(super) fn diffusion_file(&mut self, file: &str) -> Link<Model> {
        let node = self.node("UNETLoader").set("unet_name", file);
        node.set("weight_dtype", "default").out(0)
    }

    pub(super) fn text_encoder_file(&mut self, file: &str, kind: &'static str) -> Link<Clip> {
        let node = self.node("CLIPLoader").set("clip_name", file);
        node.set("type", kind).out(0)
    }

    pub(super) fn vae_file(&mut self, file: &str) -> Link<Vae> {
        self.node("VAELoader").set("vae_name", file).out(0)
    }

    pub(super) fn lora(&mut self, lora: &crate::Lora, file: &str, parts: Parts) -> Parts {
        let node = self
            .node("LoraLoader")
            .set("lora_name", file)
            .number("strength_model", lora.model)
            .number("strength_clip", lora.clip)
            .from("model", parts.model)
            .from("clip", parts.clip);
        Parts {
            model: node.out(0),
            clip: node.out(1),
            vae: parts.vae,
        }
    }

    /// `layer` counts from the end, 1 is the last.
    pub(super) fn clip_layer(&mut self, clip: Link<Clip>, layer: u32) -> Link<Clip> {
        let node = self.node("CLIPSetLastLayer").from("clip", clip);
        node.set("stop_at_clip_layer", -i64::from(layer)).out(0)
    }

    pub(super) fn encode_text(&mut self, clip: Link<Clip>, text: &str) -> Link<Conditioning> {
        let node = self.node("CLIPTextEncode").from("clip", clip);
        node.set("text", text).out(0)
    }

    pub(super) fn zeroed(&mut self, prompt: Link<Conditioning>) -> Link<Conditioning> {
        let node = self.node("ConditioningZeroOut");
        node.from("conditioning", prompt).out(0)
    }

    /// `class` is that of the family: they differ in channels.
    pub(super) fn empty(
        &mut self,
        class: &'static str,
        size: (u32, u32),
        batch: u32,
    ) -> Link<Latent> {
        let node = self.node(class).set("width", size.0).set("height", size.1);
        node.set("batch_size", batch).out(0)
    }

    pub(super) fn load_image(&mut self, upload: Upload) -> Link<Image> {
        self.node("LoadImage").picture("image", upload).out(0)
    }

    /// The mask that a grey picture is.
    pub(super) fn load_mask(&mut self, upload: Upload) -> Link<Mask> {
        let node = self.node("LoadImageMask").picture("image", upload);
        node.set("channel", "red").out(0)
    }

    pub(super) fn encode(&mut self, image: Link<Image>, vae: Link<Vae>) -> Link<Latent> {
        let node = self.node("VAEEncode").from("pixels", image);
        node.from("vae", vae).out(0)
    }

    /// Encodes with what lies under the mask greyed out, and the mask attached.
    pub(super) fn encode_for_inpaint(
        &mut self,
        image: Link<Image>,
        mask: Link<Mask>,
        vae: Link<Vae>,
    ) -> Link<Latent> {
        let node = self.node("VAEEncodeForInpaint").from("pixels", image);
        let node = node.from("mask", mask).from("vae", vae);
        node.set("grow_mask_by", 6).out(0)
    }

    pub(super) fn noise_mask(&mut self, latent: Link<Latent>, mask: Link<Mask>) -> Link<Latent> {
        let node = self.node("SetLatentNoiseMask").from("samples", latent);
        node.from("mask", mask).out(0)
    }

    pub(super) fn repeat(&mut self, latent: Link<Latent>, times: u32) -> Link<Latent> {
        if times <= 1 {
            return latent;
        }
        let node = self.node("RepeatLatentBatch").from("samples", latent);
        node.set("amount", times).out(0)
    }

    pub(super) fn resize_latent(
        &mut self,
        latent: Link<Latent>,
        size: (u32, u32),
        method: &'static str,
    ) -> Link<Latent> {
        let node = self.node("LatentUpscale").from("samples", latent);
        let node = node.set("width", size.0).set("height", size.1);
        node.set("upscale_method", method)
            .set("crop", "disabled")
            .out(0)
    }

    pub(super) fn resize_image(&mut self, image: Link<Image>, size: (u32, u32)) -> Link<Image> {
        let node = self.node("ImageScale").from("image", image);
        let node = node.set("width", size.0).set("height", size.1);
        node.set("upscale_method", "nearest-exact")
            .set("crop", "disabled")
            .out(0)
    }

    pub(super) fn sample(
        &mut self,
        walk: Walk,
        model: Link<Model>,
        prompts: Prompts,
        latent: Link<Latent>,
    ) -> Link<Latent> {
        self.count_steps(walk.steps);
        self.node("KSampler")
            .set("seed", walk.seed)
            .set("steps", walk.steps)
            .number("cfg", walk.cfg)
            .set("sampler_name", walk.sampler)
            .set("scheduler", walk.scheduler)
            .number("denoise", walk.denoise)
            .from("model", model)
            .from("positive", prompts.positive)
            .from("negative", prompts.negative)
            .from("latent_image", latent)
            .out(0)
    }

    pub(super) fn sample_stretch(
        &mut self,
        (walk, stretch): (Walk, Stretch),
        model: Link<Model>,
        prompts: Prompts,
        latent: Link<Latent>,
    ) -> Link<Latent> {
        let switch = |on: bool| if on { "enable" } else { "disable" };
        self.count_steps(stretch.end.min(walk.steps).saturating_sub(stretch.start));
        self.node("KSamplerAdvanced")
            .set("noise_seed", walk.seed)
            .set("steps", walk.steps)
            .number("cfg", walk.cfg)
            .set("sampler_name", walk.sampler)
            .set("scheduler", walk.scheduler)
            .set("start_at_step", stretch.start)
            .set("end_at_step", stretch.end)
            .set("add_noise", switch(stretch.add_noise))
            .set("return_with_leftover_noise", switch(stretch.keep_noise))
            .from("model", model)
            .from("positive", prompts.positive)
            .from("negative", prompts.negative)
            .from("latent_image", latent)
            .out(0)
    }

    pub(super) fn decode(&mut self, latent: Link<Latent>, vae: Link<Vae>) -> Link<Image> {
        let node = self.node("VAEDecode").from("samples", latent);
        node.from("vae", vae).out(0)
    }

    pub(super) fn composite_latents(
        &mut self,
        under: Link<Latent>,
        over: Link<Latent>,
        mask: Link<Mask>,
    ) -> Link<Latent> {
        let node = self
            .node("LatentCompositeMasked")
            .from("destination", under);
        let node = node.from("source", over).from("mask", mask);
        node.set("x", 0)
            .set("y", 0)
            .set("resize_source", false)
            .out(0)
    }

    /// Weights that are a difference are added to those of the model.
    pub(super) fn control_file(&mut self, file: &str, model: Link<Model>) -> Link<ControlNet> {
        if crate::plan::control::is_difference(file) {
            let node = self
                .node("DiffControlNetLoader")
                .set("control_net_name", file);
            return node.from("model", model).out(0);
        }
        self.node("ControlNetLoader")
            .set("control_net_name", file)
            .out(0)
    }

    /// Steers both prompts over the whole schedule.
    pub(super) fn steer(
        &mut self,
        prompts: Prompts,
        net: Link<ControlNet>,
        hint: Link<Image>,
        strength: f32,
    ) -> Prompts {
        let node = self
            .node("ControlNetApplyAdvanced")
            .from("positive", prompts.positive)
            .from("negative", prompts.negative)
            .from("control_net", net)
            .from("image", hint)
            .number("strength", strength)
            .set("start_percent", 0.0)
            .set("end_percent", 1.0);
        Prompts {
            positive: node.out(0),
            negative: node.out(1),
        }
    }

    /// The map that a source is for a type of control.
    pub(super) fn annotate(
        &mut self,
        class: &'static str,
        image: Link<Image>,
        resolution: u32,
    ) -> Link<Image> {
        let node = self.node(class).from("image", image);
        match class {
            "Canny" => node
                .set("low_threshold", 0.4)
                .set("high_threshold", 0.8)
                .out(0),
            "TTPlanet_TileSimple_Preprocessor" => node.out(0),
            _ => node.set("resolution", resolution).out(0),
        }
    }

    pub(super) fn empty_cascade(
        &mut self,
        size: (u32, u32),
        compression: u32,
        batch: u32,
    ) -> (Link<Latent>, Link<Latent>) {
        let node = self.node("StableCascade_EmptyLatentImage");
        let node = node.set("width", size.0).set("height", size.1);
        let node = node
            .set("compression", compression)
            .set("batch_size", batch);
        (node.out(0), node.out(1))
    }

    pub(super) fn encode_cascade(
        &mut self,
        image: Link<Image>,
        vae: Link<Vae>,
        compression: u32,
    ) -> (Link<Latent>, Link<Latent>) {
        let node = self
            .node("StableCascade_StageC_VAEEncode")
            .from("image", image);
        let node = node.from("vae", vae).set("compression", compression);
        (node.out(0), node.out(1))
    }

    pub(super) fn stage_b_prompt(
        &mut self,
        prompt: Link<Conditioning>,
        stage_c: Link<Latent>,
    ) -> Link<Conditioning> {
        let node = self.node("StableCascade_StageB_Conditioning");
        node.from("conditioning", prompt)
            .from("stage_c", stage_c)
            .out(0)
    }

    pub(super) fn see(&mut self, tower: Link<ClipVision>, image: Link<Image>) -> Link<Seen> {
        let node = self.node("CLIPVisionEncode").from("clip_vision", tower);
        node.from("image", image).set("crop", "center").out(0)
    }

    pub(super) fn mix(
        &mut self,
        prompt: Link<Conditioning>,
        seen: Link<Seen>,
        strength: f32,
    ) -> Link<Conditioning> {
        let node = self.node("unCLIPConditioning").from("conditioning", prompt);
        let node = node.from("clip_vision_output", seen);
        node.number("strength", strength)
            .set("noise_augmentation", 0.0)
            .out(0)
    }

    pub(super) fn shift_auraflow(&mut self, model: Link<Model>, shift: f32) -> Link<Model> {
        let node = self.node("ModelSamplingAuraFlow").from("model", model);
        node.number("shift", shift).out(0)
    }

    pub(super) fn noise(&mut self, seed: u64) -> Link<Noise> {
        self.node("RandomNoise").set("noise_seed", seed).out(0)
    }

    pub(super) fn guider(
        &mut self,
        model: Link<Model>,
        prompts: Prompts,
        cfg: f32,
    ) -> Link<Guider> {
        let node = self.node("CFGGuider").from("model", model);
        let node = node.from("positive", prompts.positive);
        node.from("negative", prompts.negative)
            .number("cfg", cfg)
            .out(0)
    }

    pub(super) fn sampler_named(&mut self, name: &'static str) -> Link<SamplerKind> {
        self.node("KSamplerSelect").set("sampler_name", name).out(0)
    }

    pub(super) fn sigmas(&mut self, model: Link<Model>, walk: Walk) -> Link<Sigmas> {
        let node = self.node("BasicScheduler").from("model", model);
        let node = node
            .set("scheduler", walk.scheduler)
            .set("steps", walk.steps);
        node.number("denoise", walk.denoise).out(0)
    }

    pub(super) fn sample_custom(
        &mut self,
        noise: Link<Noise>,
        guider: Link<Guider>,
        (sampler, sigmas): (Link<SamplerKind>, Link<Sigmas>),
        latent: Link<Latent>,
    ) -> Link<Latent> {
        let node = self.node("SamplerCustomAdvanced").from("noise", noise);
        let node = node.from("guider", guider).from("sampler", sampler);
        node.from("sigmas", sigmas)
            .from("latent_image", latent)
            .out(0)
    }

    pub(super) fn layer_diffusion(
        &mut self,
        model: Link<Model>,
        config: &'static str,
    ) -> Link<Model> {
        let node = self.node("LayeredDiffusionApply").from("model", model);
        node.set("config", config).set("weight", 1.0).out(0)
    }

    pub(super) fn decode_transparent(
        &mut self,
        latent: Link<Latent>,
        image: Link<Image>,
        version: &'static str,
    ) -> Link<Image> {
        let node = self
            .node("LayeredDiffusionDecodeRGBA")
            .from("samples", latent);
        let node = node.from("images", image).set("sd_version", version);
        node.set("sub_batch_size", 16).out(0)
    }

    pub(super) fn tile_model(&mut self, model: Link<Model>) -> Link<Model> {
        let node = self.node("SeamlessTile").from("model", model);
        node.set("tiling", "enable")
            .set("copy_model", "Make a copy")
            .out(0)
    }

    pub(super) fn tile_vae(&mut self, vae: Link<Vae>) -> Link<Vae> {
        let node = self.node("MakeCircularVAE").from("vae", vae);
        node.set("tiling", "enable")
            .set("copy_vae", "Make a copy")
            .out(0)
    }

    pub(super) fn upscale(&mut self, image: Link<Image>, file: &str) -> Link<Image> {
        let net: Link<UpscaleModel> = self
            .node("UpscaleModelLoader")
            .set("model_name", file)
            .out(0);
        let node = self
            .node("ImageUpscaleWithModel")
            .from("upscale_model", net);
        node.from("image", image).out(0)
    }

    pub(super) fn split_alpha(&mut self, image: Link<Image>) -> (Link<Image>, Link<Mask>) {
        let node = self.node("SplitImageWithAlpha").from("image", image);
        (node.out(0), node.out(1))
    }

    pub(super) fn join_alpha(&mut self, image: Link<Image>, alpha: Link<Mask>) -> Link<Image> {
        let node = self.node("JoinImageWithAlpha").from("image", image);
        node.from("alpha", alpha).out(0)
    }

    pub(super) fn mask_to_image(&mut self, mask: Link<Mask>) -> Link<Image> {
        self.node("MaskToImage").from("mask", mask).out(0)
    }

    pub(super) fn image_to_mask(&mut self, image: Link<Image>) -> Link<Mask> {
        let node = self.node("ImageToMask").from("image", image);
        node.set("channel", "red").out(0)
    }

    pub(super) fn fix_faces(
        &mut self,
        image: Link<Image>,
        file: &str,
        fidelity: f32,
    ) -> Link<Image> {
        let net: Link<FaceModel> = self
            .node("FaceRestoreModelLoader")
            .set("model_name", file)
            .out(0);
        let node = self
            .node("FaceRestoreCFWithModel")
            .from("facerestore_model", net);
        let node = node
            .from("image", image)
            .set("facedetection", "retinaface_resnet50");
        node.number("codeformer_fidelity", fidelity.clamp(0.0, 1.0))
            .out(0)
    }

    pub(super) fn strip_background(&mut self, image: Link<Image>) -> Link<Image> {
        let node = self.node("Image Remove Background (rembg)");
        node.from("image", image).out(0)
    }

    /// Kept among the temporary files only: a volunteer's disk is no archive of other people's
    /// pictures.
    pub(super) fn finish(&mut self, image: Link<Image>) {
        self.node("PreviewImage").from("images", image).is_result();
    }
}
