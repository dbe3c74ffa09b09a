//! What a login is compared with: an account's credentials, or a decoy that costs and shows the same.

use crate::sasl::credentials::{HashPolicy, SALT_BYTES};
use crate::sasl::decoy::Form;
use crate::sasl::{Credentials, Hash};
use crate::storage::logins::Login;

/// What a worker found out about a password.
pub(super) struct Compared {
    pub is_right: bool,
    /// Better verifiers of a right one, if the policy wants them.
    pub upgrade: Option<Credentials>,
}

/// What the client is shown: an account's own form, or the one that its name resembles. In a domain
/// without accounts there is nothing to tell, and the policy's form will do.
pub(super) fn shown_form(login: &Login, policy: &HashPolicy) -> Form {
    match (&login.account, &login.resembles) {
        (Some((_, credentials)), _) => credentials.form(),
        (None, Some(form)) => form.clone(),
        (None, None) => policy.form(),
    }
}

/// What the login proves; 0 is no account's.
pub(super) fn generation(login: &Login) -> u64 {
    let account = login.account.as_ref();
    account.map_or(0, |(record, _)| record.generation)
}

/// Runs on a worker. A name without an account takes the same way with a decoy, to the same cost.
/// `salt` is for [`Credentials::derive`].
pub(super) fn compare(
    login: &Login,
    password: &str,
    policy: &HashPolicy,
    salt: &dyn Fn(Option<Hash>) -> [u8; SALT_BYTES],
) -> Compared {
    let decoy = shown_form(login, policy).decoy();
    let account = login.account.as_ref();
    let credentials = account.map_or(&decoy, |(_, credentials)| credentials);
    let is_right = credentials.verify(password) && account.is_some();
    let mut upgrade = None;
    if is_right && credentials.wants_upgrade(policy) {
        match Credentials::derive(password, policy, salt) {
            Ok(derived) => upgrade = Some(derived),
            Err(error) => log::warn!(error:%; "credentials not upgraded"),
        }
    }
    Compared { is_right, upgrade }
}
