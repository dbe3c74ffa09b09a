//! The options of `[component."name"]`. What a component has in common with a domain is kept as the
//! domain's.

use super::spec::Form::{Number, OptionalPath, Other};
use super::spec::Reload::{NewConnections, Now};
use super::spec::{Spec, spec};
use crate::config::Secret;

pub(super) const COMPONENTS: &[Spec] = &[
    spec(
        "component",
        "secret",
        r#""""#,
        Now,
        Other(|d, given| {
            let secret = given.string().map_err(|wrong| vec![wrong])?;
            d.component.secret = (!secret.is_empty()).then(|| Secret::new(secret));
            Ok(())
        }),
    ),
    spec(
        "component",
        "certificate",
        r#""""#,
        NewConnections,
        OptionalPath(|d| &mut d.domain.certificate),
    ),
    spec(
        "component",
        "key",
        r#""""#,
        NewConnections,
        OptionalPath(|d| &mut d.domain.key),
    ),
    spec(
        "component",
        "stanza_bytes_max",
        "524288",
        NewConnections,
        Number(10_000, 16 * 1024 * 1024, |d, n| {
            d.component.stanza_bytes_max = n as usize;
        }),
    ),
];
