//! Pictures as files: what a name's ending means, and where a picture goes.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use image::{DynamicImage, ImageFormat};

/// The format that a file name asks for.
pub(crate) fn format_of(path: &Path) -> Result<ImageFormat> {
    let ending = path
        .extension()
        .and_then(|ending| ending.to_str())
        .unwrap_or_default();
    match ending.to_ascii_lowercase().as_str() {
        "png" => Ok(ImageFormat::Png),
        "webp" => Ok(ImageFormat::WebP),
        "jpg" | "jpeg" => Ok(ImageFormat::Jpeg),
        _ => bail!("`{}` must end in .png, .webp or .jpg", path.display()),
    }
}

/// The file for picture `index` of a request: the first has the given name, others a number.
pub(crate) fn numbered(out: &Path, index: usize) -> PathBuf {
    if index == 0 {
        return out.to_owned();
    }
    let stem = out.file_stem().unwrap_or_default().to_string_lossy();
    let ending = out.extension().unwrap_or_default().to_string_lossy();
    out.with_file_name(format!("{stem}-{}.{ending}", index + 1))
}

/// Writes a WebP picture in the format of the file's name.
pub(crate) fn save(webp: &[u8], path: &Path) -> Result<()> {
    let format = format_of(path)?;
    let bytes = if format == ImageFormat::WebP {
        webp.to_vec()
    } else {
        convert(webp, format)?
    };
    write(&bytes, path)
}

/// Writes a picture in the format of the file's name, as it is where that can be.
pub(crate) fn save_picture(picture: &DynamicImage, path: &Path) -> Result<()> {
    write(&encode(picture, format_of(path)?)?, path)
}

fn write(bytes: &[u8], path: &Path) -> Result<()> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
    }
    std::fs::write(path, bytes).with_context(|| format!("cannot write `{}`", path.display()))
}

fn convert(webp: &[u8], format: ImageFormat) -> Result<Vec<u8>> {
    let picture = image::load_from_memory(webp).context("the horde's picture cannot be read")?;
    encode(&picture, format)
}

fn encode(picture: &DynamicImage, format: ImageFormat) -> Result<Vec<u8>> {
    // JPEG knows no alpha.
    let opaque = (format == ImageFormat::Jpeg).then(|| DynamicImage::ImageRgb8(picture.to_rgb8()));
    let picture = opaque.as_ref().unwrap_or(picture);
    let mut bytes = Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, format)
        .context("the picture cannot be converted")?;
    Ok(bytes.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_pictures_get_a_number() {
        assert_eq!(numbered(Path::new("d/a.png"), 0), Path::new("d/a.png"));
        assert_eq!(numbered(Path::new("d/a.png"), 2), Path::new("d/a-3.png"));
    }

    #[test]
    fn the_name_decides_the_format() {
        assert_eq!(format_of(Path::new("a.PNG")).unwrap(), ImageFormat::Png);
        assert!(format_of(Path::new("a.gif")).is_err());
        assert!(format_of(Path::new("a")).is_err());
    }
}
