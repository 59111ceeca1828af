//! What is put into the prompts beside the words of the asker.
//!
//! # Source
//! `worker.md` § 2.4 and 2.6.

use crate::{Embedding, EmbeddingPlace, ImageTask};

/// What to draw and what to keep away from, with the learned words in their places.
#[must_use]
pub fn with_embeddings(task: &ImageTask) -> (String, String) {
    let mut positive = task.prompt.clone();
    let mut negative = task.negative_prompt.clone();
    for embedding in &task.embeddings {
        match embedding.place {
            Some(EmbeddingPlace::Prompt) => positive = format!("{},{positive}", word(embedding)),
            Some(EmbeddingPlace::Negative) => {
                negative = format!("{negative},{}", word(embedding));
            }
            None => {}
        }
    }
    (positive, negative.trim_start_matches(',').to_owned())
}

fn word(embedding: &Embedding) -> String {
    format!("(embedding:{}:{})", embedding.name, embedding.strength)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learned_words_are_put_where_they_belong() {
        let embedding = |name: &str, place| Embedding {
            name: name.to_owned(),
            strength: 1.2,
            place,
        };
        let mut task = ImageTask::new("m", "a cat");
        task.embeddings = vec![
            embedding("7", Some(EmbeddingPlace::Prompt)),
            embedding("8", Some(EmbeddingPlace::Negative)),
            embedding("9", None),
        ];
        let expected = ("(embedding:7:1.2),a cat", "(embedding:8:1.2)");
        let (positive, negative) = with_embeddings(&task);
        assert_eq!((positive.as_str(), negative.as_str()), expected);
        task.negative_prompt = "blur".to_owned();
        assert_eq!(with_embeddings(&task).1, "blur,(embedding:8:1.2)");
    }
}
