//! What the worker calls itself, and whether a horde knows workers of that name.
//!
//! # Source
//! `worker.md` § 1.10.

use ordu_client::Horde;

use crate::report::Extras;

/// Names that hordes know which judge workers by them.
const KNOWN: &[&str] = &[
    "AI Horde Worker reGen",
    "AI Horde Worker",
    "KoboldCppEmbedWorker",
    "TabbyAPI",
];

/// Behind this comes what writes texts, and how it is spoken to.
const SCRIBE: &str = "AI Horde Worker~";

/// Tells the owner if the horde judges workers by their name and does not know this one.
pub(crate) async fn look(horde: &Horde, extras: &Extras, agent: &str) {
    let name = agent.split(':').next().unwrap_or_default();
    if is_known(name) {
        return;
    }
    // Who does not answer will be asked again when it does, but not for this.
    let Some(found) = extras.asked(horde).await else {
        return;
    };
    if !found.has("capabilities", "1") {
        tracing::warn!(
            name,
            "this horde judges workers by their name and may not know this one: it gives less work and \
             fewer kudos then; `bridge_agent` is what the worker calls itself"
        );
    }
}

fn is_known(name: &str) -> bool {
    KNOWN.contains(&name) || name.starts_with(SCRIBE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_deployed_workers_are_known() {
        for name in [
            "AI Horde Worker",
            "AI Horde Worker~aphrodite~oai",
            "TabbyAPI",
        ] {
            assert!(is_known(name), "{name}");
        }
        for name in ["Ordu Worker", "AI Horde Workers", ""] {
            assert!(!is_known(name), "{name}");
        }
    }
}
