//! Everything that reads what comes from outside, as fuzzing calls it. Each entry says whether it made
//! sense of the bytes; what must never be is an assertion.

use std::sync::LazyLock;

use axum::body::Body;
use axum::extract::{FromRequest as _, Multipart, Query};
use axum::http::{HeaderMap, HeaderValue, Request, Uri, header};
use bytes::Bytes;
use futures::FutureExt as _;
use image::GenericImageView as _;
use ordu_core::chat::ChatFormat;
use ordu_core::horde::TextReach;
use serde_json::Value;

use crate::address::read_ip;
use crate::backup::file::Reader;
use crate::gateway::choice::TextChoice;
use crate::gateway::members::Members;
use crate::gateway::{bearer, drawing, writing};
use crate::hooks::{self, Stage};
use crate::identity::{Returned, captcha, local_path, oauth};
use crate::openapi::{operation, table};
use crate::pictures::{self, Format, Keep};
use crate::push::prefer;
use crate::routes::gateway::image::Form;
use crate::routes::{audit, blob, kudos_history, user_list, worker};
use crate::transport::read_mask;

/// The bodies of all operations.
static BODIES: LazyLock<Vec<operation::Body>> = LazyLock::new(|| {
    let groups = table::groups().into_iter();
    let operations = groups.flat_map(|group| group.operations);
    operations.filter_map(|operation| operation.body).collect()
});

/// A larger picture takes too long to write again.
const MOST_PIXELS: u32 = 512 * 512;

/// Headers that are more than text.
pub fn headers(bytes: &[u8]) -> bool {
    let Ok(value) = HeaderValue::from_bytes(bytes) else {
        return false;
    };
    let mut headers = HeaderMap::new();
    for name in ["prefer", "x-fields", "authorization"] {
        headers.insert(name, value.clone());
    }
    // Nearly every text is a mask.
    read_mask(&headers).ok();
    let is_address = value.to_str().is_ok_and(|text| read_ip(text).is_some());
    is_address | bearer(&headers).is_some() | prefer::seconds(&headers).is_some()
}

/// Queries of addresses, and paths that lead back to us.
pub fn query(text: &str) -> bool {
    if let Some(path) = local_path(text) {
        assert!(path.starts_with('/') && !path.starts_with("//"), "{path}");
    }
    let is_mark = kudos_history::read_mark(text).is_ok() | user_list::read_page(text).is_ok();
    let Ok(uri) = format!("/?{text}").parse::<Uri>() else {
        return is_mark;
    };
    let audit = Query::<audit::Wanted>::try_from_uri(&uri);
    is_mark
        | audit.is_ok_and(|Query(wanted)| wanted.filter().is_ok())
        | Query::<Returned>::try_from_uri(&uri).is_ok()
        | Query::<blob::Signed>::try_from_uri(&uri).is_ok()
        | Query::<worker::WorkerFilter>::try_from_uri(&uri).is_ok()
}

/// Bodies against the tables of all operations.
pub fn body(bytes: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        return false;
    };
    let passing = BODIES.iter().filter(|body| passes(body, value.clone()));
    passing.count() > 0
}

fn passes(body: &operation::Body, mut value: Value) -> bool {
    if body.schema.check(&mut value).is_err() {
        return false;
    }
    // What was once in order stays so, and can be read.
    let before = value.clone();
    let again = body.schema.check(&mut value);
    assert!(again.is_ok() && value == before, "{}", body.schema.name);
    assert!((body.reads)(value), "{}", body.schema.name);
    true
}

/// Calls of OpenAI's clients.
pub fn gateway(bytes: &[u8]) -> bool {
    let Ok(Value::Object(call)) = serde_json::from_slice(bytes) else {
        return false;
    };
    let members = || call.clone().into_iter().collect::<Members>();
    let conversation = writing::Conversation::read(&mut members());
    if let Ok(conversation) = &conversation {
        conversation.prompt(&TextChoice {
            models: Vec::new(),
            format: ChatFormat::Llama2,
            reach: TextReach {
                max_length: 0,
                max_context_length: 0,
            },
        });
    }
    let is_text = conversation.is_ok() | members().texts("prompt").is_ok_and(|it| !it.is_empty());
    let writes = writing::Manner::read(&mut members()).is_ok();
    drawing::Manner::read(&mut members()).is_ok() || is_text && writes
}

/// Forms with files. The boundary is `x`.
pub fn form(bytes: &[u8]) -> bool {
    let request =
        Request::builder().header(header::CONTENT_TYPE, "multipart/form-data; boundary=x");
    let Ok(request) = request.body(Body::from(bytes.to_vec())) else {
        return false;
    };
    let read = async {
        let form = Multipart::from_request(request, &()).await.ok()?;
        Form::read(form).await.ok()
    };
    // All of it is there, so nothing has to be waited for.
    let form = read.now_or_never().flatten();
    form.is_some_and(|mut form| drawing::Manner::read(&mut form.members).is_ok())
}

/// What other servers answer: those that people sign in with, judges of captchas, hooks.
pub fn answer(bytes: &[u8]) -> bool {
    let stages = [Stage::Admission, Stage::Assignment, Stage::Result];
    let verdicts = stages.map(|stage| hooks::read(stage, bytes).is_ok());
    verdicts.contains(&true) | captcha::read(bytes).is_ok() | oauth::is_read(bytes)
}

/// A backup.
pub fn backup(bytes: &[u8]) -> bool {
    let Ok((mut reader, _)) = Reader::new(bytes) else {
        return false;
    };
    loop {
        match reader.next() {
            Ok(Some(_)) => {}
            end => return end.is_ok(),
        }
    }
}

/// A picture, within the limits that those of clients and workers have.
pub fn picture(bytes: &[u8]) -> bool {
    if let Ok(text) = std::str::from_utf8(bytes) {
        pictures::decode_base64(text).ok();
    }
    let Ok(picture) = pictures::decode(bytes, Keep::Fine.max_pixels()) else {
        return false;
    };
    let (width, height) = picture.dimensions();
    if width * height <= MOST_PIXELS {
        for keep in [Keep::Picture, Keep::Mask] {
            assert!(pictures::recode(bytes, keep).is_ok(), "WebP holds it");
        }
        assert!(pictures::likeness(bytes).is_ok());
        pictures::convert(&Bytes::copy_from_slice(bytes), Format::Jpeg).ok();
        pictures::holes(bytes).ok();
    }
    true
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{DynamicImage, ImageFormat};
    use sha2::{Digest as _, Sha256};

    use super::*;

    /// What nothing makes sense of.
    const HOSTILE: [&[u8]; 5] = [
        b"",
        b"\xff\0",
        b"[[[[",
        b"{\"a\":1e999}",
        b"--x\r\n\r\n--x--",
    ];

    #[test]
    fn what_makes_no_sense_is_refused() {
        for entry in [headers, body, gateway, form, answer, backup, picture] {
            for bytes in HOSTILE {
                assert!(!entry(bytes), "{}", bytes.escape_ascii());
            }
        }
        query("a=%ff&page=-1");
        query("//elsewhere.example");
    }

    #[test]
    fn headers_and_queries_are_read() {
        for value in ["wait=5", "Bearer abc", "[2001:db8::1]:80"] {
            assert!(headers(value.as_bytes()), "{value}");
        }
        for value in ["page=2&actor=a%235", "expires=5&signature=a", "1.2", "7"] {
            assert!(query(value), "{value}");
        }
    }

    #[test]
    fn the_sample_of_each_operation_passes_its_table() {
        assert!(BODIES.len() > 25, "{}", BODIES.len());
        for of in BODIES.iter() {
            assert!(body(of.sample.as_bytes()), "{}", of.sample);
            let value = serde_json::from_str(of.sample).unwrap();
            assert!(passes(of, value), "{}: {}", of.schema.name, of.sample);
        }
    }

    #[test]
    fn calls_of_the_gateway_are_read() {
        for call in [
            r#"{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}"#,
            r#"{"prompt": ["a", "b"], "n": 2.0, "stop": null}"#,
            r#"{"prompt": "a", "size": "512x512"}"#,
        ] {
            assert!(gateway(call.as_bytes()), "{call}");
        }
        let head = "Content-Disposition: form-data; name=\"prompt\"";
        assert!(form(
            format!("--x\r\n{head}\r\n\r\na fox\r\n--x--\r\n").as_bytes()
        ));
    }

    #[test]
    fn answers_are_read() {
        for text in [
            r#"{"verdict": "allow"}"#,
            r#"{"success": false}"#,
            r#"{"id": 7}"#,
            r#"{"access_token": "a", "token_type": "bearer"}"#,
            r#"{"issuer": "https://id.example", "authorization_endpoint": "https://a", "token_endpoint": "https://b"}"#,
            r#"{"iss": "https://id.example", "sub": "7", "aud": "us", "exp": 1000, "nonce": "n"}"#,
        ] {
            assert!(answer(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn backups_and_pictures_are_read() {
        let mut file = br#"{"ordu_backup":1,"schema":1,"made":0,"program":"0","secret":""}
{"table":"a","columns":["b"]}
[1]
{"picture":"a.webp","bytes":2}
xy
"#
        .to_vec();
        let sha256 = crate::secret::hex(&Sha256::digest(&file));
        let end = format!(r#"{{"end":{{"rows":1,"pictures":1}},"sha256":"{sha256}"}}"#);
        file.extend_from_slice(end.as_bytes());
        assert!(!backup(&file));
        file.push(b'\n');
        assert!(backup(&file));
        let mut png = Cursor::new(Vec::new());
        let drawn = DynamicImage::new_rgba16(9, 7).write_to(&mut png, ImageFormat::Png);
        drawn.unwrap();
        assert!(picture(png.get_ref()));
    }
}
