//! A classifier that is a model of an engine.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use image::ImageFormat;
use ordu_engine::{AlchemyEngine, Answer, EngineError, ProgressSink, SAFETY, Step};
use serde_json::Map;

use super::{Classifier, ClassifierError, Judgement, View};

/// Has an engine look that answers [`SAFETY`].
pub struct EngineClassifier(Arc<dyn AlchemyEngine>);

impl EngineClassifier {
    /// Of this engine.
    pub fn new(engine: Arc<dyn AlchemyEngine>) -> Self {
        Self(engine)
    }
}

impl fmt::Debug for EngineClassifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EngineClassifier")
    }
}

/// Nobody follows it: a picture that was drawn is looked at to the end.
struct Unfollowed;

impl ProgressSink for Unfollowed {
    fn step(&self, _step: Step) {}
}

impl Classifier for EngineClassifier {
    fn judge<'a>(&'a self, view: View<'a>) -> BoxFuture<'a, Result<Judgement, ClassifierError>> {
        let (engine, picture) = (self.0.clone(), view.picture.clone());
        let looked = tokio::task::spawn_blocking(move || look(engine.as_ref(), &picture));
        looked
            .map(|judged| {
                let broke = |_| ClassifierError("the classifier panicked".to_owned());
                judged.map_err(broke)?
            })
            .boxed()
    }
}

fn look(engine: &dyn AlchemyEngine, picture: &Bytes) -> Result<Judgement, ClassifierError> {
    let picture = image::load_from_memory_with_format(picture, ImageFormat::WebP)
        .map_err(|_| ClassifierError("the picture cannot be read".to_owned()))?;
    let failed = |error: EngineError| ClassifierError(error.to_string());
    let answer = engine.answer(SAFETY, &picture, &Map::new(), &Unfollowed);
    let Answer::Words(words) = answer.map_err(failed)? else {
        return Err(ClassifierError("the answer is a picture".to_owned()));
    };
    serde_json::from_value(words)
        .map_err(|_| ClassifierError("the answer is no judgement".to_owned()))
}

#[cfg(test)]
mod tests {
    use image::DynamicImage;
    use serde_json::{Value, json};

    use super::*;
    use crate::encode::webp;

    /// Says this of each picture.
    struct Says(Value);

    impl AlchemyEngine for Says {
        fn forms(&self) -> Vec<String> {
            Vec::new()
        }

        fn answer(
            &self,
            form: &str,
            picture: &DynamicImage,
            _options: &Map<String, Value>,
            _progress: &dyn ProgressSink,
        ) -> Result<Answer, EngineError> {
            assert_eq!((form, picture.width()), (SAFETY, 8));
            Ok(Answer::Words(self.0.clone()))
        }
    }

    async fn judged(said: Value, picture: &Bytes) -> Result<Judgement, ClassifierError> {
        let classifier = EngineClassifier::new(Arc::new(Says(said)));
        let view = View {
            picture,
            prompt: "",
            model: "",
        };
        classifier.judge(view).await
    }

    #[tokio::test]
    async fn what_the_engine_says_is_the_judgement() {
        let picture = webp(DynamicImage::new_rgb8(8, 8)).unwrap();
        for (nsfw, csam) in [(false, false), (true, false), (true, true)] {
            let said = json!({"nsfw": nsfw, "csam": csam});
            assert_eq!(judged(said, &picture).await, Ok(Judgement { nsfw, csam }));
        }
        assert!(judged(json!(true), &picture).await.is_err());
        let nothing = Bytes::from_static(b"no picture");
        assert!(judged(json!({}), &nothing).await.is_err());
    }
}
