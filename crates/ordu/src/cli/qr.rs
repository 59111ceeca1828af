//! Pictures of `imagine` that scan.

use clap::Args;
use clap::builder::PossibleValuesParser;

/// How modules may look, in the words of the protocol.
const DRAWERS: [&str; 6] = [
    "square",
    "gapped square",
    "circle",
    "rounded",
    "vertical bars",
    "horizontal bars",
];

/// A QR code in the picture.
#[derive(Debug, Default, Args)]
pub(crate) struct Qr {
    /// What is read when the picture is scanned, such as an address.
    #[arg(long = "qr", value_name = "TEXT", conflicts_with_all = ["init", "hires_fix"])]
    pub(crate) text: Option<String>,

    /// Where the code stands, in pixels from the left and from the top; centred if it is not said.
    #[arg(long = "qr-at", value_name = "X,Y", requires = "text", value_parser = parse_place)]
    pub(crate) at: Option<Place>,

    /// How its modules look.
    #[arg(long = "qr-modules", value_name = "LOOK", requires = "text", value_parser = PossibleValuesParser::new(DRAWERS))]
    pub(crate) modules: Option<String>,

    /// White around the code, in modules; 1 if it is not said.
    #[arg(long = "qr-border", value_name = "MODULES", requires = "text", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) border: Option<u32>,

    /// What to paint where its three corners are, if that is something else.
    #[arg(long = "qr-corners", value_name = "PROMPT", requires = "text")]
    pub(crate) corners: Option<String>,
}

/// Pixels from the left and from the top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) x: u32,
    pub(crate) y: u32,
}

fn parse_place(text: &str) -> Result<Place, String> {
    let wrong = || format!("`{text}` is not a place: write it as 64,128");
    let (x, y) = text.split_once(',').ok_or_else(wrong)?;
    let side = |side: &str| side.trim().parse().map_err(|_| wrong());
    Ok(Place {
        x: side(x)?,
        y: side(y)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_two_numbers() {
        assert_eq!(parse_place("64, 128"), Ok(Place { x: 64, y: 128 }));
        for wrong in ["", "64", "-1,0", "1,x", "1,2,3", "99999999999,0"] {
            assert!(parse_place(wrong).is_err(), "{wrong}");
        }
    }
}
