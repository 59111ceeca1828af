//! A graph of nodes as ComfyUI's API takes it, built so that a link of the wrong kind does not
//! compile.
//!
//! # Source
//! ComfyUI, "Workflow API format" (docs.comfy.org): a map from id to class and inputs, where an input
//! is a literal or `[id, output]`.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use image::DynamicImage;
use serde_json::{Map, Value, json};

/// The classes of nodes that sample.
const SAMPLERS: [&str; 3] = ["KSampler", "KSamplerAdvanced", "SamplerCustomAdvanced"];

/// What flows along a link.
pub trait Kind {
    /// Its name in `/object_info`.
    const NAME: &'static str;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $kind {}

        impl Kind for $kind {
            const NAME: &'static str = $name;
        }
    )*};
}

kinds! {
    /// A diffusion model.
    Model = "MODEL";
    /// A text encoder.
    Clip = "CLIP";
    /// An autoencoder.
    Vae = "VAE";
    /// An encoded prompt.
    Conditioning = "CONDITIONING";
    /// A picture as the diffusion model sees it.
    Latent = "LATENT";
    /// Pixels.
    Image = "IMAGE";
    /// One channel of pixels.
    Mask = "MASK";
    /// A network that steers.
    ControlNet = "CONTROL_NET";
    /// A vision tower.
    ClipVision = "CLIP_VISION";
    /// What a vision tower saw.
    Seen = "CLIP_VISION_OUTPUT";
    /// A network that enlarges.
    UpscaleModel = "UPSCALE_MODEL";
    /// A network that mends faces.
    FaceModel = "FACERESTORE_MODEL";
    /// Noise to come.
    Noise = "NOISE";
    /// A model with its prompts.
    Guider = "GUIDER";
    /// A way down the noise levels.
    SamplerKind = "SAMPLER";
    /// Noise levels.
    Sigmas = "SIGMAS";
}

/// One output of a node.
#[derive(Debug)]
pub struct Link<K> {
    node: usize,
    output: usize,
    kind: PhantomData<K>,
}

impl<K> Clone for Link<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Link<K> {}

/// A picture that is uploaded before the graph is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upload(usize);

/// A graph in the making.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    uploads: Vec<DynamicImage>,
    /// The node whose pictures are the result.
    result: Option<usize>,
    steps: u32,
}

#[derive(Debug)]
struct Node {
    class: &'static str,
    inputs: BTreeMap<&'static str, Input>,
}

#[derive(Debug)]
enum Input {
    Literal(Value),
    Link(usize, usize),
    Upload(usize),
}

impl Graph {
    /// Adds a node of this class; its inputs and outputs are named through the handle.
    pub fn node(&mut self, class: &'static str) -> NodeRef<'_> {
        self.nodes.push(Node {
            class,
            inputs: BTreeMap::new(),
        });
        NodeRef {
            index: self.nodes.len() - 1,
            graph: self,
        }
    }

    /// Takes a picture along.
    pub fn upload(&mut self, image: impl Into<DynamicImage>) -> Upload {
        self.uploads.push(image.into());
        Upload(self.uploads.len() - 1)
    }

    /// The pictures to upload, in the order of their names in [`Graph::to_json`].
    pub fn uploads(&self) -> &[DynamicImage] {
        &self.uploads
    }

    /// Counts steps that a sampler of this graph will report.
    pub fn count_steps(&mut self, steps: u32) {
        self.steps = self.steps.saturating_add(steps);
    }

    /// Steps that all samplers will report.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// The ids of the nodes that sample.
    pub fn samplers(&self) -> Vec<String> {
        let nodes = self.nodes.iter().enumerate();
        let samplers = nodes.filter(|(_, node)| SAMPLERS.contains(&node.class));
        samplers.map(|(at, _)| id(at)).collect()
    }

    /// The id of the node whose pictures are the result.
    pub fn result(&self) -> Option<String> {
        self.result.map(id)
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The graph as it is sent. `names` are those the uploaded pictures got.
    pub fn to_json(&self, names: &[String]) -> Value {
        let value = |input: &Input| match input {
            Input::Literal(value) => value.clone(),
            Input::Link(node, output) => json!([id(*node), output]),
            Input::Upload(place) => json!(names.get(*place)),
        };
        let node = |node: &Node| {
            let inputs = node.inputs.iter();
            let inputs: Map<String, Value> = inputs
                .map(|(name, input)| ((*name).to_owned(), value(input)))
                .collect();
            json!({"class_type": node.class, "inputs": inputs})
        };
        let nodes = self.nodes.iter().enumerate();
        Value::Object(nodes.map(|(at, known)| (id(at), node(known))).collect())
    }
}

fn id(index: usize) -> String {
    (index + 1).to_string()
}

/// A node that was just added.
pub struct NodeRef<'a> {
    graph: &'a mut Graph,
    index: usize,
}

impl NodeRef<'_> {
    fn input(self, name: &'static str, input: Input) -> Self {
        if let Some(node) = self.graph.nodes.get_mut(self.index) {
            node.inputs.insert(name, input);
        }
        self
    }

    /// An input that comes from another node.
    #[must_use]
    pub fn from<K: Kind>(self, name: &'static str, link: Link<K>) -> Self {
        self.input(name, Input::Link(link.node, link.output))
    }

    /// An input that is written down.
    #[must_use]
    pub fn set(self, name: &'static str, value: impl Into<Value>) -> Self {
        self.input(name, Input::Literal(value.into()))
    }

    /// A number with a fraction; written as the shortest decimal that is the same single.
    #[must_use]
    pub fn number(self, name: &'static str, value: f32) -> Self {
        let short = value.to_string().parse::<f64>().ok();
        let finite = short.filter(|value| value.is_finite());
        self.set(name, finite.unwrap_or_default())
    }

    /// An input that is an uploaded picture.
    #[must_use]
    pub fn picture(self, name: &'static str, upload: Upload) -> Self {
        self.input(name, Input::Upload(upload.0))
    }

    /// One of its outputs.
    pub fn out<K: Kind>(&self, output: usize) -> Link<K> {
        Link {
            node: self.index,
            output,
            kind: PhantomData,
        }
    }

    /// Makes its pictures the result.
    pub fn is_result(self) {
        self.graph.result = Some(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_is_written_as_the_api_takes_it() {
        let mut graph = Graph::default();
        let upload = graph.upload(DynamicImage::new_rgb8(1, 1));
        let loaded = graph.node("LoadImage").picture("image", upload);
        let image: Link<Image> = loaded.out(0);
        graph
            .node("PreviewImage")
            .from("images", image)
            .number("extra", 0.1)
            .is_result();
        let expected = json!({
            "1": {"class_type": "LoadImage", "inputs": {"image": "ordu/a.png"}},
            "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0], "extra": 0.1}},
        });
        assert_eq!(graph.to_json(&["ordu/a.png".to_owned()]), expected);
        assert_eq!(graph.result().as_deref(), Some("2"));
    }
}
