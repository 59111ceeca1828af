//! Why nobody takes a request, in words.

use std::fmt::Write as _;

use ordu_api::RequestId;
use ordu_api::explanation::{Explanation, ModelExplanation};
use ordu_api::worker::WorkKind;
use ordu_client::{Error, Horde};

/// Tells on standard error why nobody takes a request, if the horde knows and somebody waits.
pub(crate) async fn tell(horde: &Horde, id: RequestId, kind: WorkKind) {
    if let Ok(Some(explanation)) = horde.explain(id, kind).await {
        eprint!("{}", describe(&explanation));
    }
}

/// The explanation of a request of whatever kind.
pub(crate) async fn find(horde: &Horde, id: RequestId) -> Result<Option<Explanation>, Error> {
    let mut found = horde.explain(id, WorkKind::Image).await;
    for kind in [WorkKind::Text, WorkKind::Interrogation] {
        if matches!(&found, Err(Error::Refused { .. })) {
            found = horde.explain(id, kind).await;
        }
    }
    found
}

/// Some lines for a person.
pub(crate) fn describe(explanation: &Explanation) -> String {
    let mut text = format!("{}\n", explanation.message);
    for model in &explanation.models {
        describe_model(&mut text, model);
    }
    text
}

fn describe_model(text: &mut String, model: &ModelExplanation) {
    let name = model.name.as_deref().unwrap_or("any model");
    // Nothing can go wrong while a text grows.
    let _ = writeln!(
        text,
        "  {name}: {} online, {} could take it",
        model.workers, model.able
    );
    for group in &model.obstacles {
        let _ = writeln!(
            text,
            "    {:>4} × {}",
            group.workers,
            group.reasons.join(", ")
        );
    }
}

#[cfg(test)]
mod tests {
    use ordu_api::explanation::Obstacle;

    use super::*;

    #[test]
    fn groups_are_lines() {
        let explanation = Explanation {
            message: "Nobody can".to_owned(),
            models: vec![ModelExplanation {
                name: Some("sd".to_owned()),
                workers: 3,
                able: 1,
                obstacles: vec![Obstacle {
                    reasons: vec!["lora".to_owned(), "nsfw".to_owned()],
                    workers: 2,
                }],
            }],
            ..Explanation::default()
        };
        assert_eq!(
            describe(&explanation),
            "Nobody can\n  sd: 3 online, 1 could take it\n       2 × lora, nsfw\n"
        );
    }
}
