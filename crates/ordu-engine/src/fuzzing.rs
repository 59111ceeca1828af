//! Everything that reads what other programs say and cannot be reached from outside of this crate, as
//! fuzzing calls it. Each entry says whether it made sense of what it was given.

pub use crate::host::is_frame as frame;
use crate::native::Compute;
use crate::native::sd::files::ModelFiles;
use crate::native::transparent;
use crate::native::weights::TensorFile;
pub use crate::remote::fuzzing::{picture, text};

/// Both files of a kit for transparent pictures, for a model.
pub fn kit(changes: &TensorFile, decoder: &TensorFile, model: &ModelFiles) -> bool {
    let kit = transparent::kit(("changes", changes.clone()), ("decoder", decoder.clone()));
    kit.is_ok_and(|kit| kit.changes(model).is_ok() & kit.decoder(model, &Compute::cpu()).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused() {
        let hostile = [
            &b""[..],
            b"\xff\0",
            b"[[[[",
            b"data: {\n\n",
            b"{\"results\": [1]}",
        ];
        for entry in [frame, text, picture] {
            for bytes in hostile {
                assert!(!entry(bytes), "{}", bytes.escape_ascii());
            }
        }
        // More pictures than anything can hold.
        assert!(!frame(&[2, 0, 255, 255, 255, 255, 15]));
    }

    #[test]
    fn the_bundled_kit_fits_the_bundled_model() {
        let model = ModelFiles::bundled().unwrap();
        let file = |bytes| TensorFile::bundled("a", bytes).unwrap();
        let changes = file(include_bytes!(
            "../models/ordu-tiny-transparent/attention.safetensors"
        ));
        let decoder = file(include_bytes!(
            "../models/ordu-tiny-transparent/decoder.safetensors"
        ));
        assert!(kit(&changes, &decoder, &model));
        assert!(!kit(&decoder, &changes, &model));
    }

    #[test]
    fn what_programs_say_is_read() {
        // `Describe`, the first of the calls.
        assert!(frame(&[0]));
        for said in [
            r#"{"results": [{"text": "a"}]}"#,
            r#"{"choices": [{"text": "a", "finish_reason": "stop", "stop_reason": "ab"}]}"#,
            "data: {\"content\": \"\u{e9}a\", \"stop\": true}\n\ndata: [DONE]\n",
        ] {
            assert!(text(said.as_bytes()), "{said}");
        }
        for said in [
            r#"{"type": "progress", "data": {"value": 1}}"#,
            r#"{"error": {"message": "a"}, "node_errors": {"1": {"errors": [{}]}}}"#,
            r#"{"CheckpointLoaderSimple": {"input": {"required": {"ckpt_name": [["a.safetensors"]]}}}}"#,
        ] {
            assert!(picture(said.as_bytes()), "{said}");
        }
    }
}
