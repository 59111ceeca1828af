//! Hostile and damaged files: errors, never a panic, never memory in proportion to a claim.

use proptest::prelude::*;

use super::*;

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

fn refusal(bytes: Vec<u8>) -> String {
    TensorFile::from_bytes("x", bytes).unwrap_err().to_string()
}

#[test]
fn a_good_file_is_read() {
    let header = r#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}"#;
    let bytes = file(header, &[0, 0x3c, 0, 0xc0]);
    let parsed = TensorFile::from_bytes("x", bytes).unwrap();
    let tensor = parsed.get("a").unwrap().to_f32(&Device::Cpu).unwrap();
    assert_eq!(tensor.to_vec1::<f32>().unwrap(), [1.0, -2.0]);
}

#[test]
fn headers_that_lie_are_refused() {
    assert!(refusal(vec![1, 2, 3]).contains("too few"));
    assert!(refusal(u64::MAX.to_le_bytes().to_vec()).contains("claims"));
    let beyond = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    assert!(refusal(file(beyond, &[0; 4])).contains("safetensors"));
    let overlap = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#;
    assert!(refusal(file(overlap, &[0; 6])).contains("safetensors"));
    let overflow =
        r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,4]}}"#;
    assert!(refusal(file(overflow, &[0; 4])).contains("safetensors"));
    let shape = r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,4]}}"#;
    assert!(refusal(file(shape, &[0; 4])).contains("safetensors"));
    let empty = r#"{"a":{"dtype":"F32","shape":[9223372036854775807,0],"data_offsets":[0,0]}}"#;
    assert!(refusal(file(empty, &[])).contains("side"));
    let trailing = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    assert!(refusal(file(trailing, &[0; 5])).contains("safetensors"));
}

#[test]
fn a_huge_header_is_refused_before_it_is_parsed() {
    let length = usize::try_from(MAX_HEADER_BYTES).unwrap() + 1;
    let mut bytes = (length as u64).to_le_bytes().to_vec();
    bytes.resize(8 + length, b' ');
    assert!(refusal(bytes).contains("at most"));
}

#[test]
fn pickles_are_refused_by_name_with_advice() {
    let error = TensorFile::open(Path::new("model.CKPT"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("convert it to .safetensors"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = TensorFile::from_bytes("x", bytes);
    }

    #[test]
    fn garbage_in_a_plausible_header_never_panics(
        shape in proptest::collection::vec(any::<u64>(), 0..10),
        from in any::<u64>(),
        to in any::<u64>(),
        data in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let header = format!(r#"{{"a":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{from},{to}]}}}}"#);
        let _ = TensorFile::from_bytes("x", file(&header, &data));
    }

    #[test]
    fn a_good_file_with_a_flipped_byte_or_cut_short_never_panics(at in 0_usize..66, to in any::<u8>(), length in 0_usize..70) {
        let header = r#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}"#;
        let mut bytes = file(header, &[0, 0x3c, 0, 0xc0]);
        if let Some(byte) = bytes.get_mut(at) { *byte = to; }
        bytes.truncate(length);
        if let Ok(parsed) = TensorFile::from_bytes("x", bytes) {
            for (_, entry) in parsed.entries() {
                let _ = entry.to_f32(&Device::Cpu);
            }
        }
    }
}
