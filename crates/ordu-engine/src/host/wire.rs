//! What the two sides say to each other: frames of a mark, a length and so many bytes of postcard.

use std::io::{self, Read, Write};

use image::DynamicImage;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    Answer, Capabilities, EngineError, Holdings, ImageTask, Picture, Step, Text, TextCapabilities,
    TextError, TextTask,
};

/// What each frame starts with, so that other programs are told from engines at once.
const MAGIC: [u8; 4] = *b"ordu";

/// The largest frame, in bytes: a batch of twenty pictures of 4096×4096 with alpha, and some.
const MAX_FRAME: u32 = 2 << 30;

/// What an engine's process is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Call {
    /// Say what you can do and hold.
    Describe,
    /// Do this; every [`Reply`] to it carries the same number.
    Run {
        attempt: u64,
        previews: bool,
        task: Box<ImageTask>,
    },
    /// Write this, the same way.
    Write { attempt: u64, task: Box<TextTask> },
    /// Answer this form, the same way.
    Read { attempt: u64, task: Box<Reading> },
    /// Nobody wants that any more.
    Cancel { attempt: u64 },
    /// Let go of what lies in memory.
    Release,
}

/// A form about a picture.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reading {
    pub(super) form: String,
    #[serde(with = "as_json")]
    pub(super) options: Map<String, Value>,
    #[serde(with = "pixels")]
    pub(super) picture: DynamicImage,
}

/// [`Answer`] on its way.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Told {
    Words(#[serde(with = "as_json")] Value),
    Picture(#[serde(with = "pixels")] DynamicImage),
}

impl From<Answer> for Told {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Words(words) => Self::Words(words),
            Answer::Picture(picture) => Self::Picture(picture),
        }
    }
}

impl From<Told> for Answer {
    fn from(told: Told) -> Self {
        match told {
            Told::Words(words) => Self::Words(words),
            Told::Picture(picture) => Self::Picture(picture),
        }
    }
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Described(Box<Description>),
    Step {
        attempt: u64,
        step: Step,
    },
    Made {
        attempt: u64,
        pictures: Vec<Picture>,
    },
    Piece {
        attempt: u64,
        text: String,
    },
    Written {
        attempt: u64,
        text: Text,
    },
    Answered {
        attempt: u64,
        told: Told,
    },
    Failed {
        attempt: u64,
        fault: Fault,
    },
    /// There is nothing to say yet, but somebody works.
    Busy,
}

/// What an engine can do and holds at a moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Description {
    pub(super) capabilities: Capabilities,
    pub(super) holdings: Holdings,
    pub(super) text: Option<Writer>,
    pub(super) forms: Vec<String>,
}

/// [`TextCapabilities`] without what is the same for all that run here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Writer {
    model: String,
    max_length: Option<u32>,
    max_context_length: Option<u32>,
    soft_prompts: Vec<String>,
}

impl From<TextCapabilities> for Writer {
    fn from(known: TextCapabilities) -> Self {
        Self {
            model: known.model,
            max_length: known.max_length,
            max_context_length: known.max_context_length,
            soft_prompts: known.soft_prompts,
        }
    }
}

impl From<Writer> for TextCapabilities {
    fn from(known: Writer) -> Self {
        Self {
            model: known.model,
            max_length: known.max_length,
            max_context_length: known.max_context_length,
            soft_prompts: known.soft_prompts,
            vision: false,
            engine: Self::NATIVE_ENGINE,
            mode: Self::NATIVE_MODE,
        }
    }
}

/// [`EngineError`] without the errors of other crates, which are told as text.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Fault {
    UnknownModel { name: String, known: Vec<String> },
    BadTask { reason: String },
    BadModel { model: String, reason: String },
    NoTokenizer { model: String, place: String },
    NoAddOn { name: String },
    AddOnMismatch { name: String, reason: String },
    BadAddOn { name: String, reason: String },
    Cancelled,
    Failed { reason: String },
}

impl From<EngineError> for Fault {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::UnknownModel { name, known } => Self::UnknownModel { name, known },
            EngineError::BadTask { reason } => Self::BadTask { reason },
            EngineError::BadModel { model, reason } => Self::BadModel { model, reason },
            EngineError::NoTokenizer { model, place } => Self::NoTokenizer { model, place },
            EngineError::NoAddOn { name } => Self::NoAddOn { name },
            EngineError::AddOnMismatch { name, reason } => Self::AddOnMismatch { name, reason },
            EngineError::BadAddOn { name, reason } => Self::BadAddOn { name, reason },
            EngineError::Cancelled => Self::Cancelled,
            other => Self::Failed {
                reason: chain(&other),
            },
        }
    }
}

impl From<Fault> for EngineError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::UnknownModel { name, known } => Self::UnknownModel { name, known },
            Fault::BadTask { reason } => Self::BadTask { reason },
            Fault::BadModel { model, reason } => Self::BadModel { model, reason },
            Fault::NoTokenizer { model, place } => Self::NoTokenizer { model, place },
            Fault::NoAddOn { name } => Self::NoAddOn { name },
            Fault::AddOnMismatch { name, reason } => Self::AddOnMismatch { name, reason },
            Fault::BadAddOn { name, reason } => Self::BadAddOn { name, reason },
            Fault::Cancelled => Self::Cancelled,
            Fault::Failed { reason } => Self::Failed { reason },
        }
    }
}

impl From<TextError> for Fault {
    fn from(error: TextError) -> Self {
        match error {
            TextError::Refused { reason } => Self::BadTask { reason },
            TextError::Cancelled => Self::Cancelled,
            other => Self::Failed {
                reason: chain(&other),
            },
        }
    }
}

/// An error and what it comes from, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// One message as a frame.
///
/// # Errors
/// If it would be larger than any frame may be.
pub(super) fn frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut frame = MAGIC.to_vec();
    frame.extend([0; 4]);
    let mut frame = postcard::to_extend(message, frame).map_err(io::Error::other)?;
    let length = frame.len() - 2 * MAGIC.len();
    let length = u32::try_from(length)
        .ok()
        .filter(|length| *length <= MAX_FRAME);
    match (length, frame.get_mut(4..8)) {
        (Some(length), Some(place)) => place.copy_from_slice(&length.to_le_bytes()),
        _ => {
            return Err(io::Error::other(
                "a message to or from an engine is too large",
            ));
        }
    }
    Ok(frame)
}

/// Writes one frame.
///
/// # Errors
/// As [`frame`], and if the other side is gone.
pub(super) fn send(output: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    output.write_all(&frame(message)?)?;
    output.flush()
}

/// Reads one frame; `None` at the end of the stream.
///
/// # Errors
/// If the stream breaks off inside a frame, or holds something else than frames.
pub(super) fn receive<M: DeserializeOwned>(input: &mut impl Read) -> io::Result<Option<M>> {
    let (mut magic, mut length) = ([0; 4], [0; 4]);
    match input.read_exact(&mut magic) {
        Ok(()) => input.read_exact(&mut length)?,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_le_bytes(length);
    if magic != MAGIC || length > MAX_FRAME {
        return Err(io::Error::other("not a message of an engine"));
    }
    let mut body = Vec::new();
    // The buffer grows with what really comes, so a wrong length costs no memory.
    let read = input.take(u64::from(length)).read_to_end(&mut body)?;
    if read < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    postcard::from_bytes(&body)
        .map(Some)
        .map_err(io::Error::other)
}

/// Whether these bytes are what a frame of either side may hold.
#[cfg(any(test, fuzzing))]
pub fn is_frame(bytes: &[u8]) -> bool {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    let frame = [&MAGIC, &length, bytes].concat();
    // Whoever sends more than a frame may send anything.
    receive::<Reply>(&mut &*bytes).ok();
    let call = receive::<Call>(&mut &*frame);
    let reply = receive::<Reply>(&mut &*frame);
    call.is_ok_and(|call| call.is_some()) | reply.is_ok_and(|reply| reply.is_some())
}

/// How structs travel that leave out what they do not have, which postcard cannot read again.
pub(crate) mod as_json {
    use serde::de::{DeserializeOwned, Error as _};
    use serde::ser::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<T: Serialize, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let json = serde_json::to_string(value).map_err(S::Error::custom)?;
        serializer.serialize_str(&json)
    }

    pub(crate) fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let json = String::deserialize(deserializer)?;
        serde_json::from_str(&json).map_err(D::Error::custom)
    }
}

/// How pictures travel: kind, size and bare pixels.
pub(crate) mod pixels {
    use image::{DynamicImage, GrayImage, RgbImage, RgbaImage};
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// One picture of 8 bits a channel.
    #[derive(Serialize, Deserialize)]
    struct Raw<'a> {
        channels: u8,
        width: u32,
        height: u32,
        #[serde(borrow, with = "super::bytes")]
        data: std::borrow::Cow<'a, [u8]>,
    }

    fn raw(image: &DynamicImage) -> Raw<'_> {
        let (channels, data) = match image {
            DynamicImage::ImageLuma8(gray) => (1, std::borrow::Cow::Borrowed(&**gray.as_raw())),
            DynamicImage::ImageRgb8(rgb) => (3, std::borrow::Cow::Borrowed(&**rgb.as_raw())),
            DynamicImage::ImageRgba8(rgba) => (4, std::borrow::Cow::Borrowed(&**rgba.as_raw())),
            // Deeper pictures become what engines make of them anyway.
            other => (4, std::borrow::Cow::Owned(other.to_rgba8().into_raw())),
        };
        Raw {
            channels,
            width: image.width(),
            height: image.height(),
            data,
        }
    }

    fn image(raw: Raw<'_>) -> Option<DynamicImage> {
        let (width, height, data) = (raw.width, raw.height, raw.data.into_owned());
        match raw.channels {
            1 => GrayImage::from_raw(width, height, data).map(DynamicImage::ImageLuma8),
            3 => RgbImage::from_raw(width, height, data).map(DynamicImage::ImageRgb8),
            4 => RgbaImage::from_raw(width, height, data).map(DynamicImage::ImageRgba8),
            _ => None,
        }
    }

    pub(crate) fn serialize<S: Serializer>(
        image: &DynamicImage,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        raw(image).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<DynamicImage, D::Error> {
        let raw = Raw::deserialize(deserializer)?;
        image(raw).ok_or_else(|| D::Error::custom("not a picture"))
    }

    /// The same for a picture of one kind that may be missing.
    pub(crate) mod optional {
        use super::{Deserialize, Deserializer, DynamicImage, GrayImage, RgbImage};
        use super::{Serialize, Serializer};

        #[derive(Serialize, Deserialize)]
        struct Wrapped(#[serde(with = "super")] DynamicImage);

        /// A kind of picture.
        pub(crate) trait Kind: Clone + Into<DynamicImage> {
            fn of(image: DynamicImage) -> Self;
        }

        impl Kind for GrayImage {
            fn of(image: DynamicImage) -> Self {
                image.into_luma8()
            }
        }

        impl Kind for RgbImage {
            fn of(image: DynamicImage) -> Self {
                image.into_rgb8()
            }
        }

        #[expect(clippy::ref_option, reason = "serde hands over what the member is")]
        pub(crate) fn serialize<K: Kind, S: Serializer>(
            picture: &Option<K>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            let picture = picture.clone().map(|picture| Wrapped(picture.into()));
            picture.serialize(serializer)
        }

        pub(crate) fn deserialize<'de, K: Kind, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<K>, D::Error> {
            let picture = Option::<Wrapped>::deserialize(deserializer)?;
            Ok(picture.map(|Wrapped(picture)| K::of(picture)))
        }
    }
}

/// Bytes as bytes, not as a sequence of numbers.
mod bytes {
    use std::borrow::Cow;
    use std::fmt;

    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    #[expect(clippy::ptr_arg, reason = "serde hands over what the member is")]
    pub(super) fn serialize<S: Serializer>(
        data: &Cow<'_, [u8]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(data)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Cow<'de, [u8]>, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Cow<'de, [u8]>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_borrowed_bytes<E: Error>(self, data: &'de [u8]) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(data))
            }

            fn visit_byte_buf<E: Error>(self, data: Vec<u8>) -> Result<Self::Value, E> {
                Ok(Cow::Owned(data))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}
