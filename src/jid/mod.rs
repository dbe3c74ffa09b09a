//! XMPP addresses (RFC 7622): `[localpart@]domainpart[/resourcepart]`, parsed into what cannot be wrong.
//!
//! All four types hold prepared text only, so equal addresses are equal strings. A clone, a
//! `bare()` and a `to_jid()` share one allocation; a [`BareJid`] taken from a full JID keeps the
//! full JID's bytes alive.

mod error;
mod list;
pub mod prep;

use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

pub use error::{JidError, Part};
pub use list::{Closeness, DomainList};
pub use prep::{prepare_localpart, prepare_password, prepare_resource};

/// The shared text of an address and where its parts end, in bytes. A whole JID has at most
/// 3 × 1023 + 2 bytes.
#[derive(Clone)]
struct Text {
    shared: Arc<str>,
    /// Where the "@" stands; 0 if there is no localpart, which is never empty.
    at: u16,
    /// The end of the bare JID.
    bare: u16,
    /// The end of this address in `shared`: `bare`, or all of it.
    end: u16,
}

impl Text {
    fn parse(s: &str) -> Result<Text, JidError> {
        // RFC 7622 §3.2: first the "/", then the "@", or "a.example.com/b@example.net" goes wrong.
        let (bare, resource) = match s.split_once('/') {
            Some((bare, resource)) => (bare, Some(resource)),
            None => (s, None),
        };
        let (local, domain) = match bare.split_once('@') {
            Some((local, domain)) => (Some(local), domain),
            None => (None, bare),
        };
        let local = local.map(prep::localpart).transpose()?;
        let domain = prep::domainpart(domain)?;
        let resource = resource.map(prep::resourcepart).transpose()?;
        Ok(Text::join(s, local, domain, resource))
    }

    /// The address of three prepared parts. `source` is taken whole if nothing in it had to change.
    fn join(
        source: &str,
        local: Option<Cow<'_, str>>,
        domain: Cow<'_, str>,
        resource: Option<Cow<'_, str>>,
    ) -> Text {
        let at = local.as_ref().map_or(0, |l| l.len());
        let bare = domain.len() + if at > 0 { at + 1 } else { 0 };
        let end = bare + resource.as_ref().map_or(0, |r| r.len() + 1);
        let is_owned = |part: &Option<Cow<'_, str>>| matches!(part, Some(Cow::Owned(_)));
        let unchanged = source.len() == end
            && !is_owned(&local)
            && !is_owned(&resource)
            && matches!(domain, Cow::Borrowed(_));
        let shared = if unchanged {
            Arc::from(source)
        } else {
            let mut text = String::with_capacity(end);
            if let Some(local) = &local {
                text.push_str(local);
                text.push('@');
            }
            text.push_str(&domain);
            if let Some(resource) = &resource {
                text.push('/');
                text.push_str(resource);
            }
            Arc::from(text)
        };
        let short = |n: usize| u16::try_from(n).expect("prepared parts have at most 1023 bytes");
        Text {
            shared,
            at: short(at),
            bare: short(bare),
            end: short(end),
        }
    }

    fn as_str(&self) -> &str {
        &self.shared[..usize::from(self.end)]
    }

    fn bare_str(&self) -> &str {
        &self.shared[..usize::from(self.bare)]
    }

    fn local(&self) -> Option<&str> {
        (self.at > 0).then(|| &self.shared[..usize::from(self.at)])
    }

    fn domain(&self) -> &str {
        let start = if self.at > 0 {
            usize::from(self.at) + 1
        } else {
            0
        };
        &self.shared[start..usize::from(self.bare)]
    }

    fn resource(&self) -> Option<&str> {
        (self.end > self.bare)
            .then(|| &self.shared[usize::from(self.bare) + 1..usize::from(self.end)])
    }

    fn bare(&self) -> Text {
        Text {
            end: self.bare,
            ..self.clone()
        }
    }
}

/// Gives an address type the traits of its text: equality, order and hash are those of the string,
/// so that maps keyed by it can be asked with a `&str`.
macro_rules! is_text {
    ($type:ident) => {
        impl PartialEq for $type {
            fn eq(&self, other: &Self) -> bool {
                self.as_str() == other.as_str()
            }
        }
        impl Eq for $type {}
        impl PartialOrd for $type {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for $type {
            fn cmp(&self, other: &Self) -> Ordering {
                self.as_str().cmp(other.as_str())
            }
        }
        impl Hash for $type {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.as_str().hash(state);
            }
        }
        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }
        impl PartialEq<str> for $type {
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }
        impl PartialEq<&str> for $type {
            fn eq(&self, other: &&str) -> bool {
                self.as_str() == *other
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($type), self.as_str())
            }
        }
        impl FromStr for $type {
            type Err = JidError;
            fn from_str(s: &str) -> Result<Self, JidError> {
                $type::parse(s)
            }
        }
    };
}

/// Any address: a domain, a bare JID or a full JID (RFC 7622 §3.1).
#[derive(Clone)]
pub struct Jid(Text);

/// `[localpart@]domainpart`, prepared: an account, a room, or a domain.
#[derive(Clone)]
pub struct BareJid(Text);

/// `[localpart@]domainpart/resourcepart`, prepared.
#[derive(Clone)]
pub struct FullJid(Text);

/// A domainpart alone, prepared (RFC 7622 §3.2): a domain name in U-labels, an IPv4 address, or an
/// IPv6 address in brackets; without final dot.
#[derive(Clone)]
pub struct Domain(Arc<str>);

is_text!(Jid);
is_text!(BareJid);
is_text!(FullJid);
is_text!(Domain);

impl Jid {
    /// Parses and prepares an address.
    ///
    /// # Errors
    /// [`JidError`] for what RFC 7622 does not allow; on the wire that is `jid-malformed`.
    pub fn parse(s: &str) -> Result<Jid, JidError> {
        Text::parse(s).map(Jid)
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The part before the "@".
    pub fn local(&self) -> Option<&str> {
        self.0.local()
    }

    /// The domainpart.
    pub fn domain(&self) -> &str {
        self.0.domain()
    }

    /// The part after the "/".
    pub fn resource(&self) -> Option<&str> {
        self.0.resource()
    }

    /// The address without its resourcepart; shares the text.
    pub fn bare(&self) -> BareJid {
        BareJid(self.0.bare())
    }

    /// The text of the address without its resourcepart.
    pub fn bare_str(&self) -> &str {
        self.0.bare_str()
    }

    /// The address as a full JID, if it has a resourcepart.
    pub fn full(&self) -> Option<FullJid> {
        self.is_full().then(|| FullJid(self.0.clone()))
    }

    /// Whether there is a resourcepart.
    pub fn is_full(&self) -> bool {
        self.0.end > self.0.bare
    }

    /// Whether there is neither localpart nor resourcepart.
    pub fn is_domain(&self) -> bool {
        self.0.at == 0 && !self.is_full()
    }

    /// The domainpart as a value of its own; allocates.
    pub fn to_domain(&self) -> Domain {
        Domain(Arc::from(self.domain()))
    }
}

impl BareJid {
    /// Parses and prepares `[localpart@]domainpart`.
    ///
    /// # Errors
    /// [`JidError`], [`JidError::UnexpectedResource`] among them.
    pub fn parse(s: &str) -> Result<BareJid, JidError> {
        let text = Text::parse(s)?;
        if text.end > text.bare {
            return Err(JidError::UnexpectedResource);
        }
        Ok(BareJid(text))
    }

    /// The address of `local`, which is prepared here, at a domain.
    ///
    /// # Errors
    /// [`JidError`] of the localpart.
    pub fn new(local: Option<&str>, domain: &Domain) -> Result<BareJid, JidError> {
        let local = local.map(prep::localpart).transpose()?;
        let source = if local.is_none() { domain.as_str() } else { "" };
        Ok(BareJid(Text::join(
            source,
            local,
            Cow::Borrowed(domain.as_str()),
            None,
        )))
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The part before the "@".
    pub fn local(&self) -> Option<&str> {
        self.0.local()
    }

    /// The domainpart.
    pub fn domain(&self) -> &str {
        self.0.domain()
    }

    /// This address with a resourcepart, which is prepared here.
    ///
    /// # Errors
    /// [`JidError`] of the resourcepart.
    pub fn with_resource(&self, resource: &str) -> Result<FullJid, JidError> {
        let resource = prep::resourcepart(resource)?;
        let local = self.local().map(Cow::Borrowed);
        Ok(FullJid(Text::join(
            "",
            local,
            Cow::Borrowed(self.domain()),
            Some(resource),
        )))
    }

    /// The same address as a [`Jid`]; shares the text.
    pub fn to_jid(&self) -> Jid {
        Jid(self.0.clone())
    }

    /// The domainpart as a value of its own; allocates.
    pub fn to_domain(&self) -> Domain {
        Domain(Arc::from(self.domain()))
    }
}

impl FullJid {
    /// Parses and prepares `[localpart@]domainpart/resourcepart`.
    ///
    /// # Errors
    /// [`JidError`], [`JidError::MissingResource`] among them.
    pub fn parse(s: &str) -> Result<FullJid, JidError> {
        let text = Text::parse(s)?;
        if text.end == text.bare {
            return Err(JidError::MissingResource);
        }
        Ok(FullJid(text))
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The part before the "@".
    pub fn local(&self) -> Option<&str> {
        self.0.local()
    }

    /// The domainpart.
    pub fn domain(&self) -> &str {
        self.0.domain()
    }

    /// The part after the "/".
    pub fn resource(&self) -> &str {
        self.0.resource().unwrap_or_default()
    }

    /// The address without its resourcepart; shares the text.
    pub fn bare(&self) -> BareJid {
        BareJid(self.0.bare())
    }

    /// The text of the address without its resourcepart.
    pub fn bare_str(&self) -> &str {
        self.0.bare_str()
    }

    /// The same address as a [`Jid`]; shares the text.
    pub fn to_jid(&self) -> Jid {
        Jid(self.0.clone())
    }
}

impl Domain {
    /// Parses and prepares a domainpart. A-labels ("xn--...") become U-labels.
    ///
    /// # Errors
    /// [`JidError`], with [`Part::Domainpart`].
    pub fn parse(s: &str) -> Result<Domain, JidError> {
        prep::domainpart(s).map(|domain| Domain(Arc::from(&*domain)))
    }

    /// The domainpart, in U-labels.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domain name in A-labels, for the DNS, SNI and certificates; addresses stay as they are.
    pub fn to_ascii(&self) -> String {
        if self.0.is_ascii() {
            return self.0.to_string();
        }
        prep::to_a_labels(&self.0).expect("`parse` has made the A-labels once")
    }

    /// The domain as an address; shares the text.
    pub fn to_jid(&self) -> Jid {
        Jid(self.text())
    }

    /// The domain as a bare JID; shares the text.
    pub fn to_bare(&self) -> BareJid {
        BareJid(self.text())
    }

    fn text(&self) -> Text {
        let end =
            u16::try_from(self.0.len()).expect("a prepared domainpart has at most 1023 bytes");
        Text {
            shared: self.0.clone(),
            at: 0,
            bare: end,
            end,
        }
    }
}

impl From<FullJid> for Jid {
    fn from(full: FullJid) -> Jid {
        Jid(full.0)
    }
}

impl From<BareJid> for Jid {
    fn from(bare: BareJid) -> Jid {
        Jid(bare.0)
    }
}

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
