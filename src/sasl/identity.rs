//! Who logs in: from the names in a SASL message, or in a certificate, to the bare JID of an account
//! (RFC 6120 §6.3.7, §6.3.8, XEP-0178 §2).

use crate::jid::{BareJid, Domain};

use super::{Refusal, SaslFailure};

const INVALID_AUTHZID: Refusal = Refusal {
    failure: SaslFailure::InvalidAuthzid,
    reason: "the client asks to act as somebody else",
};

/// The account of a SCRAM or PLAIN message: `username` is the localpart, and an authorization
/// identity can only repeat whose account it is.
///
/// # Errors
/// `NotAuthorized` for a name that is no localpart, as for any unknown user. `InvalidAuthzid` for
/// another identity, or one that is no bare JID. Neither tells whether an account exists.
pub fn named(username: &str, authzid: Option<&str>, domain: &Domain) -> Result<BareJid, Refusal> {
    let account = BareJid::new(Some(username), domain)
        .map_err(|_| Refusal::not_authorized("the user name is not a localpart"))?;
    match authzid.map(BareJid::parse) {
        None => Ok(account),
        Some(Ok(authzid)) if authzid == account => Ok(account),
        Some(_) => Err(INVALID_AUTHZID),
    }
}

/// The accounts of a domain that the `XmppAddr`s in a verified certificate name, each once.
/// Addresses of other domains, and what is no address of an account, do not count.
pub fn accounts(addresses: &[String], domain: &Domain) -> Vec<BareJid> {
    let mut accounts: Vec<BareJid> = addresses
        .iter()
        .filter_map(|address| BareJid::parse(address).ok())
        .filter(|jid| jid.local().is_some() && jid.domain() == domain.as_str())
        .collect();
    accounts.sort_unstable();
    accounts.dedup();
    accounts
}

/// The account of an EXTERNAL message: one of those that the certificate names ([`accounts`]).
///
/// # Errors
/// `NotAuthorized` if the certificate names no account of this domain. `InvalidAuthzid` if it
/// names several and the client does not say which, or if it asks for one that is not named.
pub fn certified(accounts: &[BareJid], authzid: Option<&str>) -> Result<BareJid, Refusal> {
    match (accounts, authzid.map(BareJid::parse)) {
        ([], _) => Err(Refusal::not_authorized(
            "the certificate names no account of this domain",
        )),
        ([account], None) => Ok(account.clone()),
        (_, None) => Err(Refusal {
            failure: SaslFailure::InvalidAuthzid,
            reason: "the certificate names several accounts and the client none",
        }),
        (accounts, Some(Ok(authzid))) if accounts.contains(&authzid) => Ok(authzid),
        (_, Some(_)) => Err(INVALID_AUTHZID),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> Domain {
        Domain::parse("example.org").unwrap()
    }

    fn outcome(result: Result<BareJid, Refusal>) -> Result<String, SaslFailure> {
        result.map(|jid| jid.to_string()).map_err(SaslFailure::from)
    }

    #[test]
    fn a_user_name_is_a_localpart_of_the_domain() {
        let named = |username, authzid| outcome(named(username, authzid, &domain()));
        let juliet = Ok("juliet@example.org".to_owned());
        assert_eq!(named("juliet", None), juliet);
        assert_eq!(named("JuliET", None), juliet);
        assert_eq!(named("juliet", Some("juliet@example.org")), juliet);
        assert_eq!(named("juliet", Some("Juliet@EXAMPLE.org.")), juliet);
        for name in ["", "juliet@example.org", "ju liet", "juliet/x", "\u{265a}"] {
            assert_eq!(
                named(name, None),
                Err(SaslFailure::NotAuthorized),
                "{name:?}"
            );
        }
    }

    /// RFC 6120 §6.3.8.
    #[test]
    fn another_identity_than_ones_own_is_refused() {
        for authzid in [
            "romeo@example.org",
            "juliet@example.net",
            "juliet@example.org/balcony",
            "example.org",
            "juliet",
            "ju liet@example.org",
            "@",
        ] {
            let result = outcome(named("juliet", Some(authzid), &domain()));
            assert_eq!(result, Err(SaslFailure::InvalidAuthzid), "{authzid}");
        }
    }

    /// XEP-0178 §2, step 11.
    #[test]
    fn a_certificate_names_the_account() {
        let certified = |addresses: &[&str], authzid| {
            let addresses: Vec<String> = addresses.iter().map(|a| (*a).to_owned()).collect();
            outcome(certified(&accounts(&addresses, &domain()), authzid))
        };
        let juliet = Ok("juliet@example.org".to_owned());
        let two = ["juliet@example.org", "nurse@example.org"];
        assert_eq!(certified(&["juliet@example.org"], None), juliet);
        assert_eq!(
            certified(&["Juliet@Example.org", "juliet@example.org"], None),
            juliet
        );
        assert_eq!(
            certified(&["juliet@example.org", "romeo@example.net"], None),
            juliet
        );
        assert_eq!(
            certified(&["juliet@example.org"], Some("juliet@example.org")),
            juliet
        );
        assert_eq!(certified(&two, Some("Juliet@example.org")), juliet);
        assert_eq!(certified(&two, None), Err(SaslFailure::InvalidAuthzid));
        for authzid in [
            "romeo@example.org",
            "juliet@example.org/x",
            "",
            "example.org",
        ] {
            assert_eq!(
                certified(&two, Some(authzid)),
                Err(SaslFailure::InvalidAuthzid)
            );
        }
        let none = [
            "romeo@example.net",
            "example.org",
            "juliet@example.org/x",
            "@@",
            "",
        ];
        for authzid in [None, Some("juliet@example.org")] {
            assert_eq!(certified(&none, authzid), Err(SaslFailure::NotAuthorized));
            assert_eq!(certified(&[], authzid), Err(SaslFailure::NotAuthorized));
        }
    }
}
