//! What follows from what a picture shows. Pure.

use super::Judgement;
use crate::Config;
use crate::dreamer::words;

/// What the owner of a worker has decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rules {
    /// The worker delivers nothing for adults.
    pub(super) sfw: bool,
    /// What turns out to be for adults is withheld although the worker serves adults.
    pub(super) censor_nsfw: bool,
    /// Words of prompts whose pictures are withheld if they turn out to be for adults; in lower case.
    pub(super) censorlist: Vec<String>,
}

/// What else matters for one picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    pub(super) job_censors: bool,
    pub(super) is_listed: bool,
}

/// What becomes of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Clean,
    /// It is delivered, and called what it is.
    Nsfw,
    Withheld(Reason),
}

/// Why a picture is withheld; the first that applies is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Csam,
    Worker,
    Request,
    List,
}

impl Rules {
    /// Those of the settings.
    pub(super) fn of(config: &Config) -> Self {
        Self {
            sfw: !config.nsfw,
            censor_nsfw: config.censor_nsfw,
            censorlist: words(&config.censorlist),
        }
    }

    /// Whether the positive part of a prompt holds a word of the censor list.
    pub(super) fn lists(&self, prompt: &str) -> bool {
        if self.censorlist.is_empty() {
            return false;
        }
        let positive = prompt
            .split("###")
            .next()
            .unwrap_or_default()
            .to_lowercase();
        self.censorlist.iter().any(|word| positive.contains(word))
    }
}

impl Reason {
    /// The picture that says so: a PNG.
    pub(super) fn notice(self) -> &'static [u8] {
        match self {
            Self::Csam => include_bytes!("../../assets/withheld-csam.png"),
            Self::Worker => include_bytes!("../../assets/withheld-worker.png"),
            Self::Request => include_bytes!("../../assets/withheld-request.png"),
            Self::List => include_bytes!("../../assets/withheld-list.png"),
        }
    }
}

pub(super) fn verdict(shows: Judgement, rules: &Rules, conditions: Conditions) -> Verdict {
    if shows.csam {
        return Verdict::Withheld(Reason::Csam);
    }
    if !shows.nsfw {
        return Verdict::Clean;
    }
    if rules.sfw || rules.censor_nsfw {
        Verdict::Withheld(Reason::Worker)
    } else if conditions.job_censors {
        Verdict::Withheld(Reason::Request)
    } else if conditions.is_listed {
        Verdict::Withheld(Reason::List)
    } else {
        Verdict::Nsfw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: Judgement = Judgement {
        nsfw: false,
        csam: false,
    };
    const NSFW: Judgement = Judgement {
        nsfw: true,
        csam: false,
    };
    const CSAM: Judgement = Judgement {
        nsfw: true,
        csam: true,
    };

    #[test]
    fn the_worst_reason_is_told() {
        let adults = Rules::default();
        let sfw = Rules {
            sfw: true,
            ..Rules::default()
        };
        let strict = Rules {
            censor_nsfw: true,
            ..Rules::default()
        };
        let nothing = Conditions::default();
        let asked = Conditions {
            job_censors: true,
            is_listed: true,
        };
        let listed = Conditions {
            job_censors: false,
            is_listed: true,
        };
        for (shows, rules, conditions, expected) in [
            (CLEAN, &sfw, asked, Verdict::Clean),
            (NSFW, &adults, nothing, Verdict::Nsfw),
            (NSFW, &adults, asked, Verdict::Withheld(Reason::Request)),
            (NSFW, &adults, listed, Verdict::Withheld(Reason::List)),
            (NSFW, &sfw, asked, Verdict::Withheld(Reason::Worker)),
            (NSFW, &strict, nothing, Verdict::Withheld(Reason::Worker)),
            (CSAM, &adults, nothing, Verdict::Withheld(Reason::Csam)),
            (CSAM, &sfw, asked, Verdict::Withheld(Reason::Csam)),
        ] {
            assert_eq!(verdict(shows, rules, conditions), expected);
        }
    }

    #[test]
    fn only_the_positive_part_of_a_prompt_is_listed() {
        let rules = Rules {
            censorlist: vec!["mayor".to_owned()],
            ..Rules::default()
        };
        assert!(rules.lists("The MAYOR of the town"));
        assert!(!rules.lists("the town###the mayor"));
        assert!(!Rules::default().lists("the mayor"));
    }

    #[test]
    fn each_notice_is_a_picture() {
        for reason in [Reason::Csam, Reason::Worker, Reason::Request, Reason::List] {
            let notice = image::load_from_memory(reason.notice()).unwrap();
            assert_eq!((notice.width(), notice.height()), (512, 512));
        }
    }
}
