//! Conversations as prompts.
//!
//! Text workers go on from where a text ends; they know nothing of conversations. Each family of
//! models was taught its own marks around who says what, and where to stop: [`ChatFormat`] is the
//! table of them.
//!
//! # Source
//! The model cards of the families; `instruct_format` of the reference of text models
//! (`worker.md` § 3).

use std::fmt::Write as _;

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Whoever set the conversation up.
    System,
    /// Who asks.
    User,
    /// The model.
    Assistant,
}

/// Something that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// By whom.
    pub role: Role,
    /// What.
    pub text: String,
}

/// How a family of models wants a conversation to be written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChatFormat {
    /// `<|im_start|>user`: Qwen, Hermes, Dolphin, Yi, `SmolLM` and many others.
    ChatMl,
    /// `<|start_header_id|>user<|end_header_id|>`: Llama 3.
    Llama3,
    /// `[INST] <<SYS>>`: Llama 2 chat.
    Llama2,
    /// `[INST]`: Mistral.
    Mistral,
    /// `<start_of_turn>user`: Gemma.
    Gemma,
    /// `<|user|>` with `<|end|>`: Phi 3.
    Phi,
    /// `USER:`: Vicuna, `WizardLM`.
    Vicuna,
    /// `<|user|>` with `<|model|>`: Pygmalion 2, Metharme.
    Metharme,
    /// `### Instruction:`: Alpaca, and most merges that nobody said more about.
    Alpaca,
    /// No marks: a model that only goes on from a text.
    Plain,
}

/// What stands before and after something that was said.
type Around = (&'static str, &'static str);

/// The marks of a format.
struct Marks {
    /// `None`: what the system says stands at the beginning of what the user says next.
    system: Option<Around>,
    user: Around,
    assistant: Around,
    /// What a model writes when somebody else's turn has come.
    stops: &'static [&'static str],
}

/// Parts of a model's name that tell its format, in the order in which they are looked for.
const NAMES: &[(&str, ChatFormat)] = &[
    ("ordu-tiny", ChatFormat::Plain),
    ("pygmalion", ChatFormat::Metharme),
    ("metharme", ChatFormat::Metharme),
    ("mythalion", ChatFormat::Metharme),
    ("tiefighter", ChatFormat::Alpaca),
    ("mythomax", ChatFormat::Alpaca),
    ("hermes", ChatFormat::ChatMl),
    ("dolphin", ChatFormat::ChatMl),
    ("chatml", ChatFormat::ChatMl),
    ("qwen", ChatFormat::ChatMl),
    ("smollm", ChatFormat::ChatMl),
    ("vicuna", ChatFormat::Vicuna),
    ("wizardlm", ChatFormat::Vicuna),
    ("llama-3", ChatFormat::Llama3),
    ("llama3", ChatFormat::Llama3),
    ("gemma", ChatFormat::Gemma),
    ("phi-3", ChatFormat::Phi),
    ("phi-4", ChatFormat::Phi),
    ("mixtral", ChatFormat::Mistral),
    ("mistral", ChatFormat::Mistral),
    ("ministral", ChatFormat::Mistral),
    ("llama-2", ChatFormat::Llama2),
    ("llama2", ChatFormat::Llama2),
];

/// Beginnings of the words that the reference uses, without spaces, dashes and case.
const WORDS: &[(&str, ChatFormat)] = &[
    ("chatml", ChatFormat::ChatMl),
    ("llama3", ChatFormat::Llama3),
    ("llama2", ChatFormat::Llama2),
    ("mistral", ChatFormat::Mistral),
    ("gemma", ChatFormat::Gemma),
    ("phi", ChatFormat::Phi),
    ("vicuna", ChatFormat::Vicuna),
    ("metharme", ChatFormat::Metharme),
    ("pygmalion", ChatFormat::Metharme),
    ("alpaca", ChatFormat::Alpaca),
    ("plain", ChatFormat::Plain),
    ("none", ChatFormat::Plain),
];

impl ChatFormat {
    /// The format of a model, by the word of the reference for it if there is one, else by its name.
    pub fn of(model: &str, word: Option<&str>) -> Self {
        let name = model.to_lowercase();
        let word = word.map(|word| word.to_lowercase().replace([' ', '-', '_'], ""));
        let by_word = word.and_then(|word| {
            let mut words = WORDS.iter();
            words.find(|(known, _)| word.starts_with(known))
        });
        let by_name = || NAMES.iter().find(|(part, _)| name.contains(part));
        by_word
            .or_else(by_name)
            .map_or(Self::Alpaca, |(_, format)| *format)
    }

    /// A conversation as a text that the model is to go on from, as the assistant. If the assistant
    /// spoke last, it goes on from there.
    pub fn prompt(self, turns: &[Turn]) -> String {
        let marks = self.marks();
        let mut prompt = String::new();
        // What the system said that has not been written yet.
        let mut said = String::new();
        for (index, turn) in turns.iter().enumerate() {
            let is_last = index + 1 == turns.len();
            let text = turn.text.trim();
            let (before, after) = match (turn.role, marks.system) {
                (Role::System, Some(around)) => around,
                (Role::System, None) => {
                    join(&mut said, text);
                    continue;
                }
                (Role::User, _) => marks.user,
                (Role::Assistant, _) => marks.assistant,
            };
            let system = std::mem::take(&mut said);
            match turn.role {
                _ if system.is_empty() => prompt.push_str(before),
                Role::User if self == Self::Llama2 => {
                    let _ = write!(prompt, "{before}<<SYS>>\n{system}\n<</SYS>>\n\n");
                }
                Role::User => {
                    let _ = write!(prompt, "{before}{system}\n\n");
                }
                // Nobody asked in between.
                Role::Assistant | Role::System => {
                    let (open, close) = marks.user;
                    let _ = write!(prompt, "{open}{system}{close}{before}");
                }
            }
            prompt.push_str(text);
            if is_last && turn.role == Role::Assistant {
                return prompt;
            }
            prompt.push_str(after);
        }
        if !said.is_empty() {
            // Only the system spoke, or it spoke last.
            let (before, after) = marks.user;
            let _ = write!(prompt, "{before}{said}{after}");
        }
        match self {
            Self::Plain => prompt.trim_end().to_owned(),
            _ => prompt + marks.assistant.0.trim_end_matches(' '),
        }
    }

    /// What ends the assistant's turn. Not to be shown.
    pub fn stops(self) -> &'static [&'static str] {
        self.marks().stops
    }

    const fn marks(self) -> Marks {
        match self {
            Self::ChatMl => Marks {
                system: Some(("<|im_start|>system\n", "<|im_end|>\n")),
                user: ("<|im_start|>user\n", "<|im_end|>\n"),
                assistant: ("<|im_start|>assistant\n", "<|im_end|>\n"),
                stops: &["<|im_end|>", "<|im_start|>"],
            },
            Self::Llama3 => Marks {
                system: Some((
                    "<|start_header_id|>system<|end_header_id|>\n\n",
                    "<|eot_id|>",
                )),
                user: ("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"),
                assistant: (
                    "<|start_header_id|>assistant<|end_header_id|>\n\n",
                    "<|eot_id|>",
                ),
                stops: &["<|eot_id|>", "<|start_header_id|>"],
            },
            Self::Llama2 | Self::Mistral => Marks {
                system: None,
                user: ("[INST] ", " [/INST]"),
                assistant: (" ", "</s>"),
                stops: &["</s>", "[INST]"],
            },
            Self::Gemma => Marks {
                system: None,
                user: ("<start_of_turn>user\n", "<end_of_turn>\n"),
                assistant: ("<start_of_turn>model\n", "<end_of_turn>\n"),
                stops: &["<end_of_turn>", "<start_of_turn>"],
            },
            Self::Phi => Marks {
                system: Some(("<|system|>\n", "<|end|>\n")),
                user: ("<|user|>\n", "<|end|>\n"),
                assistant: ("<|assistant|>\n", "<|end|>\n"),
                stops: &["<|end|>", "<|user|>"],
            },
            Self::Vicuna => Marks {
                system: Some(("", "\n\n")),
                user: ("USER: ", "\n"),
                assistant: ("ASSISTANT: ", "</s>\n"),
                stops: &["</s>", "\nUSER:"],
            },
            Self::Metharme => Marks {
                system: Some(("<|system|>", "")),
                user: ("<|user|>", ""),
                assistant: ("<|model|>", ""),
                stops: &["<|user|>", "<|system|>", "<|model|>"],
            },
            Self::Alpaca => Marks {
                system: Some(("", "\n\n")),
                user: ("### Instruction:\n", "\n\n"),
                assistant: ("### Response:\n", "\n\n"),
                stops: &["\n### Instruction:", "\n### Response:"],
            },
            Self::Plain => Marks {
                system: Some(("", "\n")),
                user: ("", "\n"),
                assistant: ("", "\n"),
                stops: &[],
            },
        }
    }
}

fn join(texts: &mut String, more: &str) {
    if !texts.is_empty() {
        texts.push('\n');
    }
    texts.push_str(more);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [ChatFormat; 10] = [
        ChatFormat::ChatMl,
        ChatFormat::Llama3,
        ChatFormat::Llama2,
        ChatFormat::Mistral,
        ChatFormat::Gemma,
        ChatFormat::Phi,
        ChatFormat::Vicuna,
        ChatFormat::Metharme,
        ChatFormat::Alpaca,
        ChatFormat::Plain,
    ];

    fn turns(said: &[(Role, &str)]) -> Vec<Turn> {
        let turns = said.iter().map(|(role, text)| Turn {
            role: *role,
            text: (*text).to_owned(),
        });
        turns.collect()
    }

    #[test]
    fn a_conversation_is_written_as_each_family_learnt_it() {
        let said = turns(&[
            (Role::System, "Be kind."),
            (Role::User, "Hi"),
            (Role::Assistant, "Hello!"),
            (Role::User, " Who? "),
        ]);
        for (format, expected) in [
            (
                ChatFormat::ChatMl,
                "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n\
                 <|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n\
                 <|im_start|>assistant\n",
            ),
            (
                ChatFormat::Llama3,
                "<|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>\
                 <|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
                 <|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|>\
                 <|start_header_id|>user<|end_header_id|>\n\nWho?<|eot_id|>\
                 <|start_header_id|>assistant<|end_header_id|>\n\n",
            ),
            (
                ChatFormat::Llama2,
                "[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST] Hello!</s>[INST] Who? [/INST]",
            ),
            (
                ChatFormat::Mistral,
                "[INST] Be kind.\n\nHi [/INST] Hello!</s>[INST] Who? [/INST]",
            ),
            (
                ChatFormat::Gemma,
                "<start_of_turn>user\nBe kind.\n\nHi<end_of_turn>\n<start_of_turn>model\n\
                 Hello!<end_of_turn>\n<start_of_turn>user\nWho?<end_of_turn>\n\
                 <start_of_turn>model\n",
            ),
            (
                ChatFormat::Phi,
                "<|system|>\nBe kind.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello!<|end|>\n\
                 <|user|>\nWho?<|end|>\n<|assistant|>\n",
            ),
            (
                ChatFormat::Vicuna,
                "Be kind.\n\nUSER: Hi\nASSISTANT: Hello!</s>\nUSER: Who?\nASSISTANT:",
            ),
            (
                ChatFormat::Metharme,
                "<|system|>Be kind.<|user|>Hi<|model|>Hello!<|user|>Who?<|model|>",
            ),
            (
                ChatFormat::Alpaca,
                "Be kind.\n\n### Instruction:\nHi\n\n### Response:\nHello!\n\n\
                 ### Instruction:\nWho?\n\n### Response:\n",
            ),
            (ChatFormat::Plain, "Be kind.\nHi\nHello!\nWho?"),
        ] {
            assert_eq!(format.prompt(&said), expected, "{format:?}");
        }
    }

    #[test]
    fn an_assistant_who_spoke_last_goes_on_from_there() {
        let said = turns(&[(Role::User, "Count"), (Role::Assistant, "One, two,")]);
        for format in ALL {
            assert!(format.prompt(&said).ends_with("One, two,"), "{format:?}");
        }
    }

    #[test]
    fn the_reference_goes_before_the_name() {
        for (name, word, expected) in [
            ("koboldcpp/LLaMA2-13B-Tiefighter", None, ChatFormat::Alpaca),
            ("koboldcpp/Llama-3.1-8B-Instruct", None, ChatFormat::Llama3),
            ("mistralai/Mistral-7B", None, ChatFormat::Mistral),
            ("a/Hermes-3-Llama-3.1-8B", None, ChatFormat::ChatMl),
            ("a/b", None, ChatFormat::Alpaca),
            ("a/b", Some("Llama 3 Chat"), ChatFormat::Llama3),
            ("a/Qwen", Some("Mistral V7"), ChatFormat::Mistral),
            ("a/Qwen", Some("something new"), ChatFormat::ChatMl),
            ("ordu/ordu-tiny-text", None, ChatFormat::Plain),
        ] {
            assert_eq!(ChatFormat::of(name, word), expected, "{name} {word:?}");
        }
    }

    proptest! {
        /// Whatever is said, and in whatever order: nothing is lost.
        #[test]
        fn nothing_that_was_said_is_lost(
            said in prop::collection::vec((0_usize..3, "[a-z]{1,8}"), 1..6),
            format in 0_usize..ALL.len(),
        ) {
            let roles = [Role::System, Role::User, Role::Assistant];
            let said: Vec<(Role, &str)> =
                said.iter().map(|(role, text)| (roles[*role], text.as_str())).collect();
            let prompt = ALL[format].prompt(&turns(&said));
            for (_, text) in said {
                prop_assert!(prompt.contains(text));
            }
        }
    }
}
