//! The horde at work, as it tells whoever likes to look.

use ordu_api::pulse::Pulse;

use crate::event::{Frames, broken};
use crate::{Error, Horde};

/// The name of the events.
const PULSE: &str = "pulse";

/// Pulses, as they come.
#[derive(Debug)]
pub struct Pulses(Frames);

impl Pulses {
    /// The next pulse; `None` when the stream is over. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Transport errors, also when nothing comes for a minute; [`Error::Malformed`].
    pub async fn next(&mut self) -> Result<Option<Pulse>, Error> {
        while let Some(frame) = self.0.next().await? {
            if frame.name == PULSE {
                let pulse = serde_json::from_str(&frame.data);
                return pulse.map(Some).map_err(Error::malformed);
            }
        }
        Ok(None)
    }
}

impl Horde {
    /// What the horde does, as it happens, and how it is now (`GET /status/pulse`). Hordes other than
    /// this project's do not know it.
    ///
    /// # Errors
    /// [`Error::Refused`] from a horde that does not know it; transport errors.
    pub async fn pulses(&self) -> Result<Pulses, Error> {
        let frames = Frames::open(self.get(&["status", PULSE])).await?;
        frames
            .map(Pulses)
            .ok_or_else(|| broken("the horde tells nothing"))
    }
}
