//! The features of the server, one file each. The order of the list is the order within a stage.

pub mod anonymous;
pub mod capabilities;
pub mod contact_addresses;
pub mod disco;
pub mod entity_time;
pub mod last_activity;
pub mod offline;
pub mod ping;
pub mod private_storage;
pub mod roster;
pub mod session;
pub mod stream_limits;
pub mod subscription;
pub mod vcard_temp;
pub mod version;

use crate::router::feature::Feature;

/// All features.
pub static FEATURES: &[&Feature] = &[
    &anonymous::FEATURE,
    &disco::FEATURE,
    &capabilities::FEATURE,
    &contact_addresses::FEATURE,
    &entity_time::FEATURE,
    &last_activity::FEATURE,
    &offline::FEATURE,
    &ping::FEATURE,
    &version::FEATURE,
    &roster::FEATURE,
    &private_storage::FEATURE,
    &vcard_temp::FEATURE,
    &session::FEATURE,
    &subscription::FEATURE,
    &stream_limits::FEATURE,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::pipeline::Pipeline;

    #[test]
    fn no_two_features_answer_the_same_request() {
        // Pipeline::new panics otherwise.
        Pipeline::new(FEATURES);
    }

    #[test]
    fn every_feature_names_its_specs_once() {
        let mut names: Vec<&str> = FEATURES.iter().map(|feature| feature.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FEATURES.len());
        for feature in FEATURES {
            assert!(!feature.specs.is_empty(), "{} has no spec", feature.name);
        }
    }

    /// A feature announces the namespaces of its requests; one that answers none does something on
    /// the way of stanzas, for sessions, or on streams.
    #[test]
    fn disco_announces_nothing_that_is_not_built() {
        for feature in FEATURES {
            let acts = !feature.hooks.is_empty()
                || !feature.session.is_empty()
                || !feature.stream_features.is_empty();
            for disco in feature.disco {
                let answers = feature.iq.iter().any(|route| route.ns == disco.var);
                let is_built = answers || (feature.iq.is_empty() && acts);
                assert!(is_built, "{} announces {}", feature.name, disco.var);
            }
        }
    }
}
