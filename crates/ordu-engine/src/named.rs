//! Other names for the models of an engine.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::{Capabilities, Engine, EngineError, Holdings, ImageTask, Picture, ProgressSink};

/// An engine whose models are called differently outside than inside, where other names are known.
pub struct NamedEngine {
    inner: Arc<dyn Engine>,
    /// Inside → outside.
    names: RwLock<BTreeMap<String, String>>,
}

impl NamedEngine {
    /// Before names are learnt, models are called as `inner` calls them.
    pub fn new(inner: Arc<dyn Engine>) -> Self {
        Self {
            inner,
            names: RwLock::default(),
        }
    }

    /// Calls models by these names from now on: the name that the engine has → the name outside.
    pub fn learn(&self, names: BTreeMap<String, String>) {
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = names;
    }

    fn outside(&self, inside: String) -> String {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.get(&inside).cloned().unwrap_or(inside)
    }

    /// What the engine calls a model; `None` if there is none of this name.
    fn inside(&self, outside: &str) -> Option<String> {
        let models = self.inner.capabilities().models.into_iter();
        let mut names = models.map(|model| model.name);
        names.find(|name| self.outside(name.clone()) == outside)
    }
}

impl Engine for NamedEngine {
    fn capabilities(&self) -> Capabilities {
        let mut can = self.inner.capabilities();
        let mut known: Vec<String> = Vec::new();
        can.models.retain_mut(|model| {
            model.name = self.outside(std::mem::take(&mut model.name));
            // Two files may be one model.
            let is_new = !known.contains(&model.name);
            known.push(model.name.clone());
            is_new
        });
        can
    }

    fn run(
        &self,
        mut task: ImageTask,
        progress: &dyn ProgressSink,
    ) -> Result<Vec<Picture>, EngineError> {
        // Not all tasks need a model.
        if task.model.is_empty() {
            return self.inner.run(task, progress);
        }
        let Some(name) = self.inside(&task.model) else {
            let models = self.capabilities().models.into_iter();
            return Err(EngineError::UnknownModel {
                name: task.model,
                known: models.map(|model| model.name).collect(),
            });
        };
        task.model = name;
        self.inner.run(task, progress)
    }

    fn release(&self) {
        self.inner.release();
    }

    fn missing(&self) -> Vec<String> {
        self.inner.missing()
    }

    fn holdings(&self) -> Holdings {
        let mut holdings = self.inner.holdings();
        for held in &mut holdings.models {
            held.model = self.outside(std::mem::take(&mut held.model));
        }
        holdings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Quiet;
    use crate::testing::TestEngine;

    #[test]
    fn a_model_goes_by_its_name_outside_only() {
        let engine = NamedEngine::new(Arc::new(TestEngine::new(["a_v1", "b_v1", "c"])));
        let names = || {
            let models = engine.capabilities().models.into_iter();
            models.map(|model| model.name).collect::<Vec<_>>()
        };
        assert_eq!(names(), ["a_v1", "b_v1", "c"]);
        let learnt = [("a_v1", "Alpha"), ("b_v1", "Alpha"), ("absent", "Omega")];
        engine.learn(learnt.map(|(a, b)| (a.to_owned(), b.to_owned())).into());
        assert_eq!(names(), ["Alpha", "c"]);
        let run = |model: &str| {
            let task = ImageTask {
                width: 8,
                height: 8,
                ..ImageTask::new(model, "x")
            };
            engine.run(task, &Quiet)
        };
        assert_eq!(run("Alpha").unwrap().len(), 1);
        assert_eq!(run("c").unwrap().len(), 1);
        let unknown = run("a_v1").unwrap_err().to_string();
        assert!(unknown.contains("known: Alpha, c"), "{unknown}");
    }
}
