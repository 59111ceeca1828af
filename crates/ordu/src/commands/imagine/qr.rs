//! Pictures that scan: what is asked of a horde, and what it says of them.

use anyhow::{Result, bail};
use ordu_api::image::{ExtraText, Generation};
use ordu_engine::QrSpec;
use ordu_engine::plan::qr::place;

use crate::cli::{Qr, Size};

/// The workflow of the protocol that draws them.
pub(super) fn workflow(qr: &Qr) -> Option<String> {
    qr.text.as_ref().map(|_| "qr_code".to_owned())
}

/// The texts that go with it.
pub(super) fn texts(qr: &Qr) -> Vec<ExtraText> {
    let number = |number: u32| number.to_string();
    let said = [
        ("qr_code", qr.text.clone()),
        ("module_drawer", qr.modules.clone()),
        ("function_layer_prompt", qr.corners.clone()),
        ("x_offset", qr.at.map(|at| number(at.x))),
        ("y_offset", qr.at.map(|at| number(at.y))),
        ("qr_border", qr.border.map(number)),
    ];
    let texts = said.into_iter().filter_map(|(reference, text)| {
        Some(ExtraText {
            text: Some(text?),
            reference: Some(reference.to_owned()),
        })
    });
    texts.collect()
}

/// Refuses a text that a worker would replace by one that says that it is too large.
pub(super) fn check(qr: &Qr, size: Size) -> Result<()> {
    let Some(text) = &qr.text else {
        return Ok(());
    };
    if text.is_empty() {
        bail!("`--qr` says nothing: give the text that is to be read");
    }
    let texts = texts(qr);
    let spec = QrSpec::from_texts(
        texts
            .iter()
            .filter_map(|extra| Some((extra.reference.as_deref()?, extra.text.as_deref()?))),
    );
    let (width, height) = (size.width, size.height);
    match place(&spec, width, height) {
        Some(symbol) if symbol.text == *text => Ok(()),
        _ => bail!(
            "a QR code of {} bytes does not fit into {width}x{height} pixels: shorten the text of \
             `--qr`, or ask for a larger `--size`",
            text.len()
        ),
    }
}

/// Whether the worker could scan a picture; `None` if it did not try.
pub(super) fn scans(generation: &Generation) -> Option<bool> {
    let told = generation.gen_metadata.iter();
    let mut told = told.filter_map(|remark| remark.reference.as_deref());
    told.find_map(|found| match found {
        "qr_code_scans" => Some(true),
        "qr_code_unreadable" => Some(false),
        _ => None,
    })
}
