//! One object: its metadata, what it says, and where it was written.

use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::reader::{FieldError, Read, read};
use super::{Key, Kind, Metadata, core, discovery, ingress, networking, rate_limit, security, telemetry};
use crate::problem::Problem;
use crate::source::locate::Text;

/// An object as a user wrote it.
#[derive(Debug, Clone, Serialize)]
pub struct Object {
    pub key: Key,
    pub meta: Metadata,
    pub spec: Spec,
    #[serde(skip)]
    pub origin: Origin,
    /// Of the canonical JSON; equal objects have equal hashes on every machine.
    #[serde(skip)]
    pub hash: u64,
    /// Smaller is older; see [`Age`].
    #[serde(skip)]
    pub age: Age,
}

impl Object {
    /// Whether this object is about the same content as `other`, wherever either was written.
    pub fn same_content(&self, other: &Self) -> bool {
        self.key == other.key && self.hash == other.hash
    }

    /// Says of a problem that it is about this object, and on which line.
    pub fn blame(&self, problem: Problem) -> Problem {
        self.origin.locate(problem.about(&self.key))
    }

    /// The same of several, for one look through the object's text.
    pub fn blame_all(&self, problems: Vec<Problem>) -> Vec<Problem> {
        if problems.is_empty() {
            return problems;
        }
        let text = self.origin.file.as_ref().map(|_| Text::new(&self.origin.text, self.origin.line));
        let blame = |problem: Problem| Problem {
            line: text.as_ref().map(|text| text.line_of(&problem.field)),
            file: self.origin.file.clone(),
            ..problem.about(&self.key)
        };
        problems.into_iter().map(blame).collect()
    }
}

/// When an object came to be, for every rule that says "the oldest wins".
///
/// `creationTimestamp` if there is one, else when it was first seen; among equals the order of first application,
/// which within one load is the order of file names and documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Age {
    /// Seconds since 1970.
    pub created: i64,
    /// Filled in by [`crate::world::World`], which keeps it over later versions of the object.
    pub sequence: u64,
}

/// Where an object was written.
#[derive(Clone, Default)]
pub struct Origin {
    pub file: Option<Arc<PathBuf>>,
    /// Line of the document's first content, from 1.
    pub line: u32,
    /// The document as written, for finding the line of a field.
    pub text: Arc<str>,
}

impl Origin {
    /// The line of a field in its file; of the nearest field around it when it is not written there.
    pub fn line_of(&self, field: &str) -> Option<u32> {
        self.file.as_ref().map(|_| Text::new(&self.text, self.line).line_of(field))
    }

    /// Fills in file and line of a problem, from the field it names.
    pub fn locate(&self, mut problem: Problem) -> Problem {
        problem.line = self.line_of(&problem.field);
        problem.file.clone_from(&self.file);
        problem
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}:{}", file.display(), self.line),
            None => f.write_str("elsewhere"),
        }
    }
}

/// What is read into a [`Spec`].
pub trait Content: Sized + 'static {
    /// The kind; for controllers of pods the first of them.
    const KIND: Kind;

    /// This content, if `spec` is of the kind.
    fn of(spec: &Spec) -> Option<&Self>;
}

/// Whether a kind's fields are under `spec` or beside `metadata`.
enum Place {
    Spec,
    Document,
}

macro_rules! specs {
    ($($kind:ident: $type:ty, $place:ident;)*) => {
        /// What an object says, by kind.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(untagged)]
        pub enum Spec {
            $($kind(Arc<$type>),)*
        }

        impl Spec {
            /// The kind of object this belongs to.
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)*
                }
            }

            /// Reads what an object of `kind` says from its whole document.
            ///
            /// # Errors
            /// When something does not fit; the field is named.
            pub fn read(kind: Kind, document: &Value) -> Result<Read<Self>, FieldError> {
                match kind {
                    $(Kind::$kind => read_at::<$type>(document, Place::$place)
                        .map(|read| Read { value: Self::$kind(Arc::new(read.value)), unknown: read.unknown }),)*
                }
            }
        }
    };
}

macro_rules! contents {
    ($($kind:ident: $type:ty;)*) => {$(
        impl Content for $type {
            const KIND: Kind = Kind::$kind;

            fn of(spec: &Spec) -> Option<&Self> {
                match spec {
                    Spec::$kind(content) => Some(content),
                    _ => None,
                }
            }
        }
    )*};
}

specs! {
    Namespace: core::Namespace, Document;
    ServiceAccount: core::ServiceAccount, Document;
    Service: core::Service, Spec;
    Pod: core::Pod, Document;
    EndpointSlice: discovery::EndpointSlice, Document;
    Deployment: core::PodController, Spec;
    StatefulSet: core::PodController, Spec;
    Job: core::PodController, Spec;
    Secret: core::Secret, Document;
    ConfigMap: core::ConfigMap, Document;
    IngressClass: ingress::IngressClass, Spec;
    Ingress: ingress::Ingress, Spec;
    Gateway: networking::Gateway, Spec;
    VirtualService: networking::VirtualService, Spec;
    DestinationRule: networking::DestinationRule, Spec;
    ServiceEntry: networking::ServiceEntry, Spec;
    WorkloadEntry: networking::WorkloadEntry, Spec;
    Sidecar: networking::Sidecar, Spec;
    PeerAuthentication: security::PeerAuthentication, Spec;
    AuthorizationPolicy: security::AuthorizationPolicy, Spec;
    RequestAuthentication: security::RequestAuthentication, Spec;
    Telemetry: telemetry::Telemetry, Spec;
    RateLimit: rate_limit::RateLimit, Spec;
}

contents! {
    Namespace: core::Namespace;
    ServiceAccount: core::ServiceAccount;
    Service: core::Service;
    Pod: core::Pod;
    EndpointSlice: discovery::EndpointSlice;
    Secret: core::Secret;
    ConfigMap: core::ConfigMap;
    IngressClass: ingress::IngressClass;
    Ingress: ingress::Ingress;
    Gateway: networking::Gateway;
    VirtualService: networking::VirtualService;
    DestinationRule: networking::DestinationRule;
    ServiceEntry: networking::ServiceEntry;
    WorkloadEntry: networking::WorkloadEntry;
    Sidecar: networking::Sidecar;
    PeerAuthentication: security::PeerAuthentication;
    AuthorizationPolicy: security::AuthorizationPolicy;
    RequestAuthentication: security::RequestAuthentication;
    Telemetry: telemetry::Telemetry;
    RateLimit: rate_limit::RateLimit;
}

impl Spec {
    /// The template of a Deployment, StatefulSet or Job.
    pub fn pod_controller(&self) -> Option<&core::PodController> {
        match self {
            Self::Deployment(controller) | Self::StatefulSet(controller) | Self::Job(controller) => {
                Some(controller)
            }
            _ => None,
        }
    }
}

fn read_at<T: DeserializeOwned>(document: &Value, place: Place) -> Result<Read<T>, FieldError> {
    let empty = Value::Object(serde_json::Map::new());
    match place {
        Place::Spec => read(document.get("spec").filter(|spec| !spec.is_null()).unwrap_or(&empty), "spec"),
        Place::Document => read(document, ""),
    }
}

/// An object together with what it says, by type. Dereferences to the latter.
#[derive(Debug)]
pub struct Item<'w, T> {
    pub object: &'w Object,
    pub spec: &'w T,
}

impl<'w, T: Content> Item<'w, T> {
    /// The object as an item of type `T`, if it is one.
    pub fn of(object: &'w Object) -> Option<Self> {
        T::of(&object.spec).map(|spec| Self { object, spec })
    }
}

impl<T> Item<'_, T> {
    /// The object's name.
    pub fn name(&self) -> &str {
        &self.object.key.name
    }

    /// The object's namespace.
    pub fn namespace(&self) -> &str {
        &self.object.key.namespace
    }
}

impl<T> Clone for Item<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Item<'_, T> {}

impl<T> Deref for Item<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.spec
    }
}
