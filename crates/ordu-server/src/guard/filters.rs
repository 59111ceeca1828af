//! The moderators' filters, compiled, and kept as the database has them.

use std::sync::{Arc, PoisonError, RwLock};

use ordu_core::filter::{Filter, FilterError, FilterSet, Terms};
use ordu_store::Store;

/// The filters in use.
pub(crate) struct Filters {
    terms: Arc<Terms>,
    /// Whether prompts are judged when somebody asks for something.
    enabled: bool,
    current: RwLock<Current>,
}

/// What was read last and what it was compiled to.
#[derive(Clone)]
struct Current {
    list: Arc<Vec<ordu_store::Filter>>,
    set: Arc<FilterSet>,
}

impl Filters {
    pub(crate) fn new(terms: Arc<Terms>, enabled: bool) -> Self {
        let set = FilterSet::compile(&[], Arc::clone(&terms)).unwrap_or_default();
        let current = Current {
            list: Arc::default(),
            set: Arc::new(set),
        };
        Self {
            terms,
            enabled,
            current: RwLock::new(current),
        }
    }

    /// The compiled filters.
    pub(crate) fn set(&self) -> Arc<FilterSet> {
        self.current().set
    }

    /// Whether prompts are judged when somebody asks for something.
    pub(crate) const fn is_enabled(&self) -> bool {
        self.enabled
    }

    fn current(&self) -> Current {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    /// Reads the filters and compiles them if they changed. What cannot be compiled never replaces
    /// what could.
    pub(crate) async fn refresh(&self, store: &Store) -> Result<(), ordu_store::Error> {
        let list = store.list_filters().await?;
        if *self.current().list == list {
            return Ok(());
        }
        match self.compile(&list).await {
            Ok(set) => self.install(list, set),
            Err(error) => tracing::error!(%error, "the filters stay as they were"),
        }
        Ok(())
    }

    fn install(&self, list: Vec<ordu_store::Filter>, set: FilterSet) {
        let current = Current {
            list: Arc::new(list),
            set: Arc::new(set),
        };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
    }

    /// Compiles a list away from the threads that answer.
    pub(crate) async fn compile(
        &self,
        list: &[ordu_store::Filter],
    ) -> Result<FilterSet, FilterError> {
        let filters: Vec<Filter> = list
            .iter()
            .map(|filter| Filter {
                regex: filter.regex.clone(),
                kind: filter.kind,
                replacement: filter.replacement.clone(),
            })
            .collect();
        let terms = Arc::clone(&self.terms);
        let work = move || FilterSet::compile(&filters, terms);
        match tokio::task::spawn_blocking(work).await {
            Ok(compiled) => compiled,
            // Only a panic ends so, and it is logged where it happened.
            Err(_) => Err(FilterError::TooMany(list.len())),
        }
    }
}
