//! What there is to say about one operation, in the order in which it is read.

use axum::http::Method;
use ordu_api::schema::{Kind, Schema};
use schemars::{JsonSchema, SchemaGenerator};

use crate::extract::Input;

/// Operations about one noun.
pub(crate) struct Group {
    /// Its heading.
    pub(crate) name: &'static str,
    /// What it is about.
    pub(crate) doc: &'static str,
    pub(crate) operations: Vec<Operation>,
}

/// One method of one path.
pub(crate) struct Operation {
    pub(crate) method: Method,
    /// Below [`ordu_api::BASE_PATH`].
    pub(crate) path: &'static str,
    /// What it does, in a few words.
    pub(crate) summary: &'static str,
    /// What else there is to know.
    pub(crate) note: &'static str,
    pub(crate) access: Access,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) body: Option<Body>,
    pub(crate) answers: Vec<Answer>,
    /// Statuses of refusals, besides those that can always come.
    pub(crate) refusals: &'static [u16],
    pub(crate) reach: Reach,
}

/// Whose key an operation wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nobody's.
    Open,
    /// Anybody may do without; the text says who sees more with one.
    Optional(&'static str),
    /// The text says whose.
    Key(&'static str),
}

/// How much of the horde an answer needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Limits and the store can say no.
    Shared,
    /// Facts of the node that answers.
    Node,
}

/// One value outside the body.
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) place: Place,
    pub(crate) kind: Kind,
    pub(crate) doc: &'static str,
}

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Path,
    Query,
    Header,
}

/// What a body holds.
pub(crate) struct Body {
    pub(crate) schema: Schema,
    /// A body that works, as JSON. Ids in it stand for real ones.
    pub(crate) sample: &'static str,
    /// Whether it must be there.
    pub(crate) required: bool,
    /// Whether the handler's type reads from what passes the table.
    #[cfg(any(test, fuzzing))]
    pub(crate) reads: fn(serde_json::Value) -> bool,
}

/// One answer that says yes.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) doc: &'static str,
    pub(crate) shape: Shape,
}

/// What an answer holds.
pub(crate) enum Shape {
    Nothing,
    Json(fn(&mut SchemaGenerator) -> schemars::Schema),
    /// Server-sent events.
    Events,
}

pub(crate) fn get(path: &'static str, summary: &'static str) -> Operation {
    Operation::new(Method::GET, path, summary)
}

pub(crate) fn post(path: &'static str, summary: &'static str) -> Operation {
    Operation::new(Method::POST, path, summary)
}

pub(crate) fn put(path: &'static str, summary: &'static str) -> Operation {
    Operation::new(Method::PUT, path, summary)
}

pub(crate) fn patch(path: &'static str, summary: &'static str) -> Operation {
    Operation::new(Method::PATCH, path, summary)
}

pub(crate) fn delete(path: &'static str, summary: &'static str) -> Operation {
    Operation::new(Method::DELETE, path, summary)
}

impl Operation {
    fn new(method: Method, path: &'static str, summary: &'static str) -> Self {
        Self {
            method,
            path,
            summary,
            note: "",
            access: Access::Open,
            parameters: Vec::new(),
            body: None,
            answers: Vec::new(),
            refusals: &[],
            reach: Reach::Shared,
        }
    }

    pub(crate) fn note(self, note: &'static str) -> Self {
        Self { note, ..self }
    }

    /// Needs a key; `whose` finishes the sentence "With the key of …".
    pub(crate) fn key(self, whose: &'static str) -> Self {
        let access = Access::Key(whose);
        Self { access, ..self }
    }

    /// Takes a key; `what` says what for.
    pub(crate) fn optional_key(self, what: &'static str) -> Self {
        let access = Access::Optional(what);
        Self { access, ..self }
    }

    fn parameter(
        mut self,
        place: Place,
        name: &'static str,
        kind: Kind,
        doc: &'static str,
    ) -> Self {
        self.parameters.push(Parameter {
            name,
            place,
            kind,
            doc,
        });
        self
    }

    pub(crate) fn path(self, name: &'static str, doc: &'static str) -> Self {
        self.parameter(Place::Path, name, Kind::text(1, usize::MAX), doc)
    }

    pub(crate) fn query(self, name: &'static str, kind: Kind, doc: &'static str) -> Self {
        self.parameter(Place::Query, name, kind, doc)
    }

    pub(crate) fn header(self, name: &'static str, kind: Kind, doc: &'static str) -> Self {
        self.parameter(Place::Header, name, kind, doc)
    }

    /// Takes the body that the handler reads; `sample` is one that works.
    pub(crate) fn body<T: Input>(self, sample: &'static str) -> Self {
        let operation = self.table(T::SCHEMA, sample);
        #[cfg(any(test, fuzzing))]
        let operation = operation.reads::<T>();
        operation
    }

    #[cfg(any(test, fuzzing))]
    fn reads<T: Input>(mut self) -> Self {
        if let Some(body) = &mut self.body {
            body.reads = |value| serde_json::from_value::<T>(value).is_ok();
        }
        self
    }

    /// The same for a body that is read by hand.
    pub(crate) fn table(self, schema: Schema, sample: &'static str) -> Self {
        let body = Some(Body {
            schema,
            sample,
            required: true,
            #[cfg(any(test, fuzzing))]
            reads: |_| true,
        });
        Self { body, ..self }
    }

    /// The body may be left out.
    pub(crate) fn or_nothing(mut self) -> Self {
        if let Some(body) = &mut self.body {
            body.required = false;
        }
        self
    }

    pub(crate) fn answers<T: JsonSchema>(mut self, status: u16, doc: &'static str) -> Self {
        self.answers.push(Answer {
            status,
            doc,
            shape: Shape::Json(SchemaGenerator::subschema_for::<T>),
        });
        self
    }

    pub(crate) fn answers_nothing(mut self, status: u16, doc: &'static str) -> Self {
        self.answers.push(Answer {
            status,
            doc,
            shape: Shape::Nothing,
        });
        self
    }

    pub(crate) fn answers_stream(mut self, status: u16, doc: &'static str) -> Self {
        self.answers.push(Answer {
            status,
            doc,
            shape: Shape::Events,
        });
        self
    }

    pub(crate) fn refuses(self, refusals: &'static [u16]) -> Self {
        Self { refusals, ..self }
    }

    /// Says facts of the answering node only.
    pub(crate) fn of_node(self) -> Self {
        let reach = Reach::Node;
        Self { reach, ..self }
    }

    /// Every status that a refusal can have.
    pub(crate) fn all_refusals(&self) -> Vec<u16> {
        let mut all = self.refusals.to_vec();
        // A broken mask, or a missing key.
        all.push(400);
        if matches!(self.access, Access::Key(_)) {
            all.push(401);
        }
        if self.parameters.iter().any(|p| p.place == Place::Path) {
            all.push(404);
        }
        if self.body.is_some() {
            all.extend([408, 413]);
        }
        if self.reach == Reach::Shared {
            all.extend([429, 503]);
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}
