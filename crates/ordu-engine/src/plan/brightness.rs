//! What is dark in a picture, and what is bright.

/// The brightness up to which a pixel is dark: the means of the two sides are farthest apart.
///
/// # Source
/// Otsu 1979, "A threshold selection method from gray-level histograms".
pub(crate) fn dark_up_to(pixels: impl Iterator<Item = u8>) -> u8 {
    let mut counts = [0_u32; 256];
    for brightness in pixels {
        if let Some(count) = counts.get_mut(usize::from(brightness)) {
            *count += 1;
        }
    }
    let levels = || {
        let counts = counts.iter().map(|count| f64::from(*count));
        (0_u8..=u8::MAX).zip(counts)
    };
    let all: f64 = levels().map(|(_, count)| count).sum();
    let sum: f64 = levels()
        .map(|(level, count)| f64::from(level) * count)
        .sum();
    let (mut dark, mut dark_sum) = (0.0, 0.0);
    let mut best = (0.0, 0);
    for (level, count) in levels() {
        dark += count;
        dark_sum += f64::from(level) * count;
        let bright = all - dark;
        if dark == 0.0 || bright == 0.0 {
            continue;
        }
        let apart = dark_sum / dark - (sum - dark_sum) / bright;
        let score = dark * bright * apart * apart;
        if score > best.0 {
            best = (score, level);
        }
    }
    best.1
}
