//! Why nobody takes a request, where the horde tells. Ours: other hordes do not know.

use ordu_api::RequestId;
use ordu_api::alchemy::AlchemyStatus;
use ordu_api::explanation::Explanation;
use ordu_api::image::Progress;
use ordu_api::text::TextStatus;
use ordu_api::worker::WorkKind;

use crate::transport::answer;
use crate::{Error, Horde};

impl Horde {
    /// What keeps workers from a request, and the smallest change that would help
    /// (`explain=true` of check and status). `None` from a horde that does not explain.
    ///
    /// # Errors
    /// [`Error::Refused`] with `RequestNotFound` for a request that is unknown, expired, or of
    /// another kind.
    pub async fn explain(
        &self,
        id: RequestId,
        kind: WorkKind,
    ) -> Result<Option<Explanation>, Error> {
        let id = id.to_string();
        let path: &[&str] = match kind {
            WorkKind::Image => &["generate", "check", &id],
            WorkKind::Text => &["generate", "text", "status", &id],
            WorkKind::Interrogation => &["interrogate", "status", &id],
        };
        let asked = self.get_with(path, "explain", "true");
        let explanation = match kind {
            WorkKind::Image => answer::<Progress>(asked).await?.explanation,
            WorkKind::Text => answer::<TextStatus>(asked).await?.progress.explanation,
            WorkKind::Interrogation => answer::<AlchemyStatus>(asked).await?.explanation,
        };
        Ok(explanation.map(|explanation| *explanation))
    }
}
