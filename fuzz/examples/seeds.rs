//! Makes the first inputs of targets from the test data of the engine:
//! `cargo run --manifest-path fuzz/Cargo.toml --example seeds`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// What each family of parsers understands, where no test data is at hand.
const TEXTS: &[(&str, &str)] = &[
    ("headers", "wait=5, respond-async"),
    ("headers", "a,b{c},*"),
    ("headers", "Bearer abc"),
    ("headers", "[2001:db8::1]:80"),
    ("headers", "192.0.2.0/24"),
    ("headers", "page=2&actor=a%235&since=1"),
    ("headers", "/a/../b?c=d"),
    (
        "gateway",
        r#"{"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "https://a", "detail": "low"}}]}], "stop": ["a"], "n": 2.0, "stream": true, "stream_options": {"include_usage": true}, "temperature": 1, "max_tokens": 9}"#,
    ),
    (
        "gateway",
        r#"{"prompt": "a", "size": "512x512", "quality": "hd", "response_format": "b64_json", "background": "transparent", "seed": 7}"#,
    ),
    (
        "gateway",
        "--x\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\na fox\r\n--x\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\nabc\r\n--x--\r\n",
    ),
    ("answers", r#"{"verdict": "refuse", "message": "a"}"#),
    (
        "answers",
        r#"{"access_token": "a", "token_type": "bearer", "id_token": "a.b.c"}"#,
    ),
    (
        "answers",
        r#"{"iss": "https://id.example", "sub": "7", "aud": ["us"], "exp": 1000, "nonce": "n"}"#,
    ),
    (
        "answers",
        r#"{"id": 1, "name": "a", "modelVersions": [{"id": 2, "trainedWords": ["b"], "files": [{"name": "a.safetensors", "sizeKB": 1, "primary": true, "downloadUrl": "https://a", "hashes": {"SHA256": "0000000000000000000000000000000000000000000000000000000000000000"}}]}]}"#,
    ),
    (
        "answers",
        r#"{"choices": [{"text": "a", "finish_reason": "stop", "stop_reason": "ab"}]}"#,
    ),
    (
        "answers",
        r#"{"results": [{"text": "a", "finish_reason": "length"}]}"#,
    ),
    (
        "answers",
        r#"{"type": "progress", "data": {"value": 1, "node": "2", "prompt_id": "3"}}"#,
    ),
    (
        "answers",
        r#"{"error": {"message": "a"}, "node_errors": {"1": {"class_type": "b", "errors": [{"message": "c", "details": "d"}]}}}"#,
    ),
    (
        "answers",
        r#"{"id": "00000000-0000-0000-0000-000000000001", "payload": {"prompt": "a", "width": "512", "loras": [{"name": 1}]}, "skipped": {"nsfw": 1}}"#,
    ),
    (
        "streams",
        "id: 1\nevent: queued\ndata: {\ndata: }\r\n\r\n: a\n\n",
    ),
    (
        "streams",
        "data: {\"token\": \"a\"}\n\ndata: {\"content\": \"b\", \"stop\": true}\ndata: [DONE]\n",
    ),
    (
        "backup",
        "{\"ordu_backup\":1,\"schema\":1,\"made\":0,\"program\":\"0\",\"secret\":\"\"}\n{\"table\":\"a\",\"columns\":[\"b\"]}\n[1]\n{\"picture\":\"a.webp\",\"bytes\":2}\nxy\n{\"end\":{\"rows\":1,\"pictures\":1},\"sha256\":\"\"}\n",
    ),
    (
        "backup",
        r#"{"steps": 20, "width": null, "loras": [{"name": "a"}]}"#,
    ),
    (
        "settings",
        r#"{"patreon": [{"stable_id": 7, "pledge": 10, "name": "a"}], "stripe": [{"horde": "a#7", "product": "Treasured"}]}"#,
    ),
];

/// Larger files make slow inputs.
const MOST: u64 = 100_000;

fn main() -> std::io::Result<()> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR"));
    let engine = fuzz.join("../crates/ordu-engine");
    let mut files = Vec::new();
    for root in ["testdata", "models", "../ordu-worker/assets"] {
        below(&engine.join(root), &mut files)?;
    }
    for path in files {
        let name = path.to_string_lossy().replace(['/', '.'], "_");
        let bytes = fs::metadata(&path)?.len();
        let put = |target: &str, content: &[u8]| -> std::io::Result<()> {
            let folder = fuzz.join("corpus").join(target);
            fs::create_dir_all(&folder)?;
            let short: String = name.chars().rev().take(80).collect();
            fs::write(
                folder.join(short.chars().rev().collect::<String>()),
                content,
            )
        };
        match path
            .extension()
            .and_then(|it| it.to_str())
            .unwrap_or_default()
        {
            "safetensors" => {
                let content = fs::read(&path)?;
                if let Some(lines) = lines(&content) {
                    put("networks", lines.as_bytes())?;
                    put("add_ons", lines.as_bytes())?;
                    put("loaders", lines.as_bytes())?;
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
                put("answers", &content)?;
            }
            "png" | "webp" if bytes < MOST => put("picture", &fs::read(&path)?)?,
            _ => {}
        }
    }
    for (number, (target, text)) in TEXTS.iter().enumerate() {
        let folder = fuzz.join("corpus").join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("text_{number}")), text)?;
    }
    pairs(fuzz)
}

/// What is made of two files.
fn pairs(fuzz: &Path) -> std::io::Result<()> {
    let models = fuzz.join("../crates/ordu-engine/models");
    for [one, two] in [
        ["ordu-tiny-cascade/stage_c", "ordu-tiny-cascade/stage_b"],
        [
            "ordu-tiny-transparent/attention",
            "ordu-tiny-transparent/decoder",
        ],
    ] {
        let read = |name: &str| fs::read(models.join(name).with_extension("safetensors"));
        let (Some(first), Some(second)) = (lines(&read(one)?), lines(&read(two)?)) else {
            continue;
        };
        let name = one.replace('/', "_");
        fs::write(
            fuzz.join("corpus/loaders").join(name),
            format!("{first}---\n{second}"),
        )?;
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
        let shape: Vec<String> = entry["shape"]
            .as_array()?
            .iter()
            .map(ToString::to_string)
            .collect();
        let kind = entry["dtype"].as_str()?;
        writeln!(lines, "{name} {kind} {}", shape.join("x")).ok()?;
    }
    Some(lines)
}
