//! Extended attributes of what is restored: as the snapshot has them, and no others that it would have kept.

use super::TreeWriter;
use crate::source::attributes::{ACL, DEFAULT_ACL, Object, kind_of};
use protocol::item::{Attribute, Meta};

const ADVICE: &str = "the target's file system may not have them, or only root may set them";

impl TreeWriter {
    /// Sets the attributes; what cannot be set is counted.
    pub(super) fn set_attributes(&self, object: Object<'_>, meta: &Meta, attributes: &[Attribute]) {
        // What is made in a folder with a default list inherits it; an existing folder may have had anything.
        for name in object.names().unwrap_or_default() {
            let known = name.to_bytes();
            let is_ours = known == ACL || known == DEFAULT_ACL || known.starts_with(b"user.");
            if is_ours
                && !attributes.iter().any(|attribute| attribute.name.0 == known)
                && let Err(error) = object.remove(&name)
            {
                self.missed.add(kind_of(known), ADVICE, meta, error);
            }
        }
        for attribute in attributes {
            if let Err(error) = object.set(attribute) {
                self.missed.add(kind_of(&attribute.name.0), ADVICE, meta, error);
            }
        }
    }
}
