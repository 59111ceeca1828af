//! Checks a graph as ComfyUI does, against what `/object_info` says, and works out what it draws.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// What comes out of a node, as far as it can be seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) batch: u32,
    pub(crate) has_alpha: bool,
}

pub(crate) struct Checker<'a> {
    pub(crate) info: &'a Value,
    pub(crate) uploads: &'a BTreeMap<String, (u32, u32)>,
    pub(crate) graph: &'a Map<String, Value>,
}

impl Checker<'_> {
    /// The errors of each node, in ComfyUI's words.
    pub(crate) fn errors(&self) -> Map<String, Value> {
        let mut all = Map::new();
        for (id, node) in self.graph {
            let errors = self.node_errors(node);
            if !errors.is_empty() {
                let errors: Vec<Value> = errors
                    .into_iter()
                    .map(|details| json!({"type": "x", "message": "Invalid input", "details": details}))
                    .collect();
                let class = &node["class_type"];
                all.insert(
                    id.clone(),
                    json!({"errors": errors, "class_type": class, "dependent_outputs": []}),
                );
            }
        }
        all
    }

    fn node_errors(&self, node: &Value) -> Vec<String> {
        let class = node["class_type"].as_str().unwrap_or_default();
        let Some(known) = self.info.get(class) else {
            return vec![format!("class `{class}` is unknown")];
        };
        let mut errors = Vec::new();
        let given = node["inputs"].as_object().unwrap();
        let mut named = BTreeSet::new();
        for group in ["required", "optional"] {
            let inputs = known["input"][group].as_object().into_iter().flatten();
            for (name, wanted) in inputs {
                named.insert(name.as_str());
                match given.get(name) {
                    Some(value) => errors.extend(self.input_error(name, wanted, value)),
                    None if group == "required" => errors.push(format!("`{name}` is missing")),
                    None => {}
                }
            }
        }
        let unknown = given.keys().filter(|name| !named.contains(name.as_str()));
        errors.extend(unknown.map(|name| format!("`{name}` is unknown")));
        errors
    }

    fn input_error(&self, name: &str, wanted: &Value, value: &Value) -> Option<String> {
        let listed = match &wanted[0] {
            Value::Array(listed) => Some(listed),
            kind if kind == "COMBO" => wanted[1]["options"].as_array(),
            _ => None,
        };
        if let Some(listed) = listed {
            let text = value.as_str().unwrap_or_default();
            let is_upload = wanted[1].get("image_upload") == Some(&json!(true));
            let known = listed.contains(value) || (is_upload && self.uploads.contains_key(text));
            return (!known).then(|| format!("`{name}`: {value} not in list"));
        }
        let kind = wanted[0].as_str().unwrap_or_default();
        if let Some([from, output]) = value.as_array().map(Vec::as_slice) {
            let from = self.graph.get(from.as_str().unwrap_or_default());
            let class = from
                .and_then(|node| node["class_type"].as_str())
                .unwrap_or_default();
            let offered = &self.info[class]["output"][usize::try_from(output.as_u64()?).ok()?];
            return (offered != kind)
                .then(|| format!("`{name}` wants {kind}, got {offered} of {class}"));
        }
        let in_range = |value: f64| {
            let least = wanted[1]["min"].as_f64().unwrap_or(f64::MIN);
            let most = wanted[1]["max"].as_f64().unwrap_or(f64::MAX);
            (least..=most).contains(&value)
        };
        let right = match kind {
            "INT" => (value.is_u64() || value.is_i64()) && value.as_f64().is_some_and(in_range),
            "FLOAT" => value.as_f64().is_some_and(in_range),
            "STRING" => value.is_string(),
            "BOOLEAN" => value.is_boolean(),
            _ => false,
        };
        (!right).then(|| format!("`{name}`: {value} is no {kind} in range"))
    }

    /// The node that shows its pictures.
    pub(crate) fn result(&self) -> Option<(&String, Shape)> {
        let mut nodes = self.graph.iter();
        let (id, node) = nodes.find(|(_, node)| node["class_type"] == "PreviewImage")?;
        Some((id, self.shape(&node["inputs"]["images"])))
    }

    fn shape(&self, link: &Value) -> Shape {
        let node = &self.graph[link[0].as_str().unwrap()];
        let inputs = &node["inputs"];
        let number = |name: &str| u32::try_from(inputs[name].as_u64().unwrap()).unwrap();
        let of = |name: &str| self.shape(&inputs[name]);
        let resized = |shape: Shape| Shape {
            width: number("width"),
            height: number("height"),
            ..shape
        };
        match node["class_type"].as_str().unwrap() {
            "EmptyLatentImage" | "EmptySD3LatentImage" | "StableCascade_EmptyLatentImage" => {
                Shape {
                    width: number("width"),
                    height: number("height"),
                    batch: number("batch_size"),
                    has_alpha: false,
                }
            }
            "LoadImage" | "LoadImageMask" => {
                let (width, height) = self.uploads[inputs["image"].as_str().unwrap()];
                Shape {
                    width,
                    height,
                    batch: 1,
                    has_alpha: false,
                }
            }
            "VAEEncode" | "VAEEncodeForInpaint" => of("pixels"),
            "SetLatentNoiseMask" | "VAEDecode" => of("samples"),
            "RepeatLatentBatch" => Shape {
                batch: of("samples").batch * number("amount"),
                ..of("samples")
            },
            "LatentUpscale" => resized(of("samples")),
            "ImageScale" => resized(of("image")),
            "KSampler" | "KSamplerAdvanced" | "SamplerCustomAdvanced" => of("latent_image"),
            "LatentCompositeMasked" => of("destination"),
            "LayeredDiffusionDecodeRGBA" => Shape {
                has_alpha: true,
                ..of("images")
            },
            "Image Remove Background (rembg)" | "JoinImageWithAlpha" => Shape {
                has_alpha: true,
                ..of("image")
            },
            "SplitImageWithAlpha" => Shape {
                has_alpha: false,
                ..of("image")
            },
            "MaskToImage" => of("mask"),
            "ImageUpscaleWithModel" => {
                let loader = &self.graph[inputs["upscale_model"][0].as_str().unwrap()];
                let file = loader["inputs"]["model_name"].as_str().unwrap();
                let factor = if file.contains("x2") || file.starts_with("2x") {
                    2
                } else {
                    4
                };
                let shape = of("image");
                Shape {
                    width: shape.width * factor,
                    height: shape.height * factor,
                    ..shape
                }
            }
            // Annotators and whatever else works on a picture.
            _ => of("image"),
        }
    }
}
