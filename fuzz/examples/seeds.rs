//! Makes the first inputs of targets from the test data of the engine:
//! `cargo run --manifest-path fuzz/Cargo.toml --example seeds`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Larger files make slow inputs.
const MOST: u64 = 100_000;

fn main() -> std::io::Result<()> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR"));
    let engine = fuzz.join("../crates/ordu-engine");
    let mut files = Vec::new();
    for root in ["testdata", "models"] {
        below(&engine.join(root), &mut files)?;
    }
    for path in files {
        let name = path.to_string_lossy().replace(['/', '.'], "_");
        let bytes = fs::metadata(&path)?.len();
        let put = |target: &str, content: &[u8]| -> std::io::Result<()> {
            let folder = fuzz.join("corpus").join(target);
            fs::create_dir_all(&folder)?;
            let short: String = name.chars().rev().take(80).collect();
            fs::write(folder.join(short.chars().rev().collect::<String>()), content)
        };
        match path.extension().and_then(|it| it.to_str()).unwrap_or_default() {
            "safetensors" => {
                let content = fs::read(&path)?;
                if let Some(lines) = lines(&content) {
                    put("networks", lines.as_bytes())?;
                    put("add_ons", lines.as_bytes())?;
                }
                if bytes < MOST {
                    put("safetensors", &content)?;
                }
            }
            "gguf" if bytes < 2 * MOST => put("gguf", &fs::read(&path)?)?,
            "json" if bytes < MOST => {
                let content = fs::read(&path)?;
                put("tokenizer", &content)?;
                put("settings", &content)?;
                put("bodies", &content)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn below(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            below(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// The header of a file of tensors in the lines that the targets take.
fn lines(file: &[u8]) -> Option<String> {
    let length = u64::from_le_bytes(file.get(..8)?.try_into().ok()?);
    let header = file.get(8..8 + usize::try_from(length).ok()?)?;
    let header: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
    let mut lines = String::new();
    for (name, entry) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        let shape: Vec<String> = entry["shape"].as_array()?.iter().map(ToString::to_string).collect();
        let kind = entry["dtype"].as_str()?;
        writeln!(lines, "{name} {kind} {}", shape.join("x")).ok()?;
    }
    Some(lines)
}
