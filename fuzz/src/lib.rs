//! Files of tensors from a few lines of text, so that what mutates is what matters: names and shapes.
//!
//! A line is `name kind 2x3`; the kind is one of safetensors' (`F32`, `F16`, …). A line `fill 7f` says of
//! what bytes all numbers are made.

use std::fmt::Write as _;

/// The largest file that is made, in bytes.
const MOST: usize = 4 << 20;

/// The file, or nothing if the lines make none of a size that is worth trying.
pub fn tensor_file(lines: &str) -> Option<Vec<u8>> {
    let mut header = String::from("{");
    let (mut at, mut fill) = (0_usize, 0_u8);
    for line in lines.lines().filter(|line| !line.is_empty()) {
        let (name, rest) = line.rsplit_once(' ')?;
        if name == "fill" {
            fill = u8::from_str_radix(rest, 16).unwrap_or(fill);
            continue;
        }
        let (name, kind) = name.rsplit_once(' ')?;
        let shape: Vec<usize> = rest.split('x').filter_map(|side| side.parse().ok()).collect();
        let each = match kind {
            "F64" | "I64" | "U64" => 8,
            "F32" | "I32" | "U32" => 4,
            "F16" | "BF16" | "I16" | "U16" => 2,
            _ => 1,
        };
        let numbers = shape.iter().try_fold(1_usize, |all, side| all.checked_mul(*side))?;
        let end = at.checked_add(numbers.checked_mul(each)?)?;
        if end > MOST {
            return None;
        }
        if header.len() > 1 {
            header.push(',');
        }
        let name = serde_json::to_string(name).ok()?;
        let kind = serde_json::to_string(kind).ok()?;
        write!(header, r#"{name}:{{"dtype":{kind},"shape":{shape:?},"data_offsets":[{at},{end}]}}"#).ok()?;
        at = end;
    }
    header.push('}');
    let length = u64::try_from(header.len()).ok()?;
    let mut file = length.to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.resize(file.len() + at, fill);
    Some(file)
}
