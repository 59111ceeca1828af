//! LoRAs and textual inversions of `imagine`.

/// What is borrowed from others, and how strongly.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AddOn {
    pub(crate) name: String,
    pub(crate) strength: f64,
}

/// The strengths that hordes take.
const STRENGTHS: std::ops::RangeInclusive<f64> = -5.0..=5.0;

/// `NAME`, or `NAME=STRENGTH`. What follows an equals sign and is no number is part of the name.
pub(crate) fn parse(text: &str) -> Result<AddOn, String> {
    let given = text
        .rsplit_once('=')
        .and_then(|(name, strength)| Some((name, strength.trim().parse::<f64>().ok()?)));
    let (name, strength) = given.unwrap_or((text, 1.0));
    if name.is_empty() {
        return Err(format!("`{text}` names nothing: write it as NAME=0.8"));
    }
    if !STRENGTHS.contains(&strength) {
        return Err(format!("a strength of {strength} is not between -5 and 5"));
    }
    Ok(AddOn {
        name: name.to_owned(),
        strength,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_strengths_are_told_apart() {
        let read = |text| parse(text).map(|it| (it.name, it.strength));
        assert_eq!(read("7"), Ok(("7".to_owned(), 1.0)));
        assert_eq!(read("ink wash=0.8"), Ok(("ink wash".to_owned(), 0.8)));
        assert_eq!(read("a=b"), Ok(("a=b".to_owned(), 1.0)));
        assert_eq!(read("a=b=-1"), Ok(("a=b".to_owned(), -1.0)));
        for wrong in ["", "=1", "a=5.1", "a=nan", "a=inf"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
