//! Weights that are grown from the names of tensors, as `training/parity/grown.py` grows them: nothing
//! but names and shapes has to be stored.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use ordu_engine::native::weights::TensorFile;
use safetensors::tensor::{Dtype, View};

/// Names and shapes.
pub(crate) type Shapes = BTreeMap<String, Vec<usize>>;

/// The numbers of a tensor: FNV-1a of its name seeds SplitMix64; 24 bits a number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "24 bits, and rounding to f32 is part of the rule"
)]
pub(crate) fn numbers(name: &str, shape: &[usize]) -> Vec<f32> {
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |seed, byte| {
        (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let unit = |index: u64| {
        let mut z = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 40) as f64 / 8_388_608.0 - 1.0
    };
    let inputs: usize = shape.iter().skip(1).product();
    let value = |unit: f64| match shape {
        [_, _, ..] => unit * (2.0 / (inputs as f64).sqrt()),
        _ if name.ends_with("weight") || name.ends_with("running_var") => 1.0 + unit * 0.3,
        _ => unit * 0.3,
    };
    let count: usize = shape.iter().product();
    (1..=count as u64)
        .map(|index| value(unit(index)) as f32)
        .collect()
}

/// A tensor to be written.
#[derive(Clone)]
pub(crate) struct Raw {
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

impl Raw {
    pub(crate) fn of(numbers: &[f32], shape: &[usize]) -> Self {
        Self {
            shape: shape.to_vec(),
            bytes: numbers.iter().flat_map(|it| it.to_le_bytes()).collect(),
        }
    }

    pub(crate) fn grown(name: &str, shape: &[usize]) -> Self {
        Self::of(&numbers(name, shape), shape)
    }

    /// A tensor of no sides.
    pub(crate) fn number(value: f32) -> Self {
        Self::of(&[value], &[])
    }
}

impl View for &Raw {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        self.bytes.as_slice().into()
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

pub(crate) type File = BTreeMap<String, Raw>;

/// All tensors of a part, named by a rule.
pub(crate) fn part(part: &str, shapes: &Shapes, rule: impl Fn(&str) -> String) -> File {
    let tensors = shapes
        .iter()
        .map(|(name, shape)| (rule(name), Raw::grown(&format!("{part}/{name}"), shape)));
    tensors.collect()
}

pub(crate) fn write(file: &File, path: &Path, notes: &[(&str, &str)]) {
    let notes = notes
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    safetensors::serialize_to_file(file, Some(notes.collect()), path).unwrap();
}

/// A file of tensors, as it is read.
pub(crate) fn opened(file: &File) -> TensorFile {
    TensorFile::from_bytes("grown", safetensors::serialize(file, None).unwrap()).unwrap()
}

/// A text encoder under the names of OpenCLIP, with queries, keys and values fused.
pub(crate) fn open_clip(own: &str, shapes: &Shapes, prefix: &str) -> File {
    let mut file = part(own, shapes, str::to_owned);
    let mut renamed = File::new();
    for layer in 0.. {
        let inner = format!("encoder.layers.{layer}.self_attn.");
        for kind in ["weight", "bias"] {
            let parts = ["q", "k", "v"].map(|it| file.remove(&format!("{inner}{it}_proj.{kind}")));
            let [Some(q), Some(k), Some(v)] = parts else {
                continue;
            };
            let mut shape = q.shape.clone();
            shape[0] *= 3;
            let bytes = [q.bytes, k.bytes, v.bytes].concat();
            renamed.insert(
                format!("{prefix}transformer.resblocks.{layer}.attn.in_proj_{kind}"),
                Raw { shape, bytes },
            );
        }
        if !file.keys().any(|name| name.starts_with(&inner)) {
            break;
        }
        for (ours, theirs) in [
            ("layer_norm1", "ln_1"),
            ("layer_norm2", "ln_2"),
            ("self_attn.out_proj", "attn.out_proj"),
            ("mlp.fc1", "mlp.c_fc"),
            ("mlp.fc2", "mlp.c_proj"),
        ] {
            for kind in ["weight", "bias"] {
                let raw = file.remove(&format!("encoder.layers.{layer}.{ours}.{kind}"));
                let name = format!("{prefix}transformer.resblocks.{layer}.{theirs}.{kind}");
                renamed.insert(name, raw.unwrap());
            }
        }
    }
    if let Some(projection) = file.remove("text_projection.weight") {
        renamed.insert(format!("{prefix}text_projection"), transposed(&projection));
    }
    for (name, raw) in file {
        let theirs = match name.as_str() {
            "embeddings.token_embedding.weight" => "token_embedding.weight".to_owned(),
            "embeddings.position_embedding.weight" => "positional_embedding".to_owned(),
            other => other.replace("final_layer_norm", "ln_final"),
        };
        renamed.insert(format!("{prefix}{theirs}"), raw);
    }
    renamed.insert(format!("{prefix}logit_scale"), Raw::number(4.6));
    renamed
}

fn transposed(raw: &Raw) -> Raw {
    let [rows, columns] = raw.shape[..] else {
        panic!("a matrix");
    };
    let numbers = raw.bytes.as_chunks::<4>().0;
    let bytes =
        (0..columns).flat_map(|column| (0..rows).map(move |row| numbers[row * columns + column]));
    Raw {
        shape: vec![columns, rows],
        bytes: bytes.flatten().collect(),
    }
}
