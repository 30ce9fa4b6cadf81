//! The resource of a process: OpenTelemetry specification, resource SDK.

use crate::span::{Attribute, AttributeValue};

/// Attributes that all spans of one process share.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Each key once, `service.name` among them.
    pub attributes: Vec<Attribute>,
}

impl Resource {
    /// The value of `service.name`; empty where it is missing.
    #[must_use]
    pub fn service_name(&self) -> &str {
        let named = self.attributes.iter().find(|attribute| attribute.key == "service.name");
        match named.map(|attribute| &attribute.value) {
            Some(AttributeValue::Str(name)) => name,
            _ => "",
        }
    }
}
