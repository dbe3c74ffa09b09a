//! The SCRAM family (RFC 5802, RFC 7677), with channel binding (RFC 5929, RFC 9266) and protection of
//! the offer against downgrades (XEP-0474 0.5).
//!
//! [`ClientFirst::parse`], [`ClientFirst::challenge`] and [`Exchange::finish`] are the three steps; each
//! takes the one before. An unknown user goes the whole way with [`super::fake_verifier`]:
//! the same messages, the same work, the failure of a wrong password. The log's reason for a
//! refusal comes with the `_explained` variants.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::memcmp;
use zeroize::Zeroizing;

use super::simple::decode_wiped;
use super::{Hash, Mechanism, Refusal, SaslFailure, Verifier};

/// A type of channel binding that this server can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Binding {
    /// `tls-exporter`, RFC 9266: the connection itself.
    TlsExporter,
    /// `tls-server-end-point`, RFC 5929 §4: the server's certificate.
    TlsServerEndPoint,
}

impl Binding {
    /// All of them, the strongest first.
    pub const ALL: [Binding; 2] = [Binding::TlsExporter, Binding::TlsServerEndPoint];

    /// Its name in the IANA registry and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Binding::TlsExporter => "tls-exporter",
            Binding::TlsServerEndPoint => "tls-server-end-point",
        }
    }

    /// The binding of that name; case matters (RFC 5056 §7).
    pub fn parse(name: &str) -> Option<Binding> {
        Binding::ALL
            .into_iter()
            .find(|binding| binding.name() == name)
    }
}

/// The binding data that a connection has. Without TLS there is none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bindings {
    /// Of `tls-exporter`.
    pub exporter: Option<Vec<u8>>,
    /// Of `tls-server-end-point`.
    pub end_point: Option<Vec<u8>>,
}

impl Bindings {
    /// The data of one type.
    pub fn data(&self, binding: Binding) -> Option<&[u8]> {
        match binding {
            Binding::TlsExporter => self.exporter.as_deref(),
            Binding::TlsServerEndPoint => self.end_point.as_deref(),
        }
    }

    /// The types there are, for XEP-0440 and [`downgrade_string`]. `-PLUS` is offered if there is any.
    pub fn available(&self) -> Vec<Binding> {
        Binding::ALL
            .into_iter()
            .filter(|binding| self.data(*binding).is_some())
            .collect()
    }
}

impl fmt::Debug for Bindings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bindings").field(&self.available()).finish()
    }
}

/// The string whose hash protects the offer against downgrades (XEP-0474 §6.1): the mechanisms and,
/// if any were announced by XEP-0440, the types of channel binding, just as they were offered on
/// this stream.
pub fn downgrade_string(mechanisms: &[Mechanism], bindings: &[Binding]) -> String {
    let mut names: Vec<&str> = mechanisms
        .iter()
        .map(|mechanism| mechanism.name())
        .collect();
    names.sort_unstable();
    let mut string = names.join("\u{1e}");
    if !bindings.is_empty() {
        let mut names: Vec<&str> = bindings.iter().map(|binding| binding.name()).collect();
        names.sort_unstable();
        string.push('\u{1f}');
        string.push_str(&names.join("\u{1e}"));
    }
    string
}

/// A client-first-message that passed (RFC 5802 §7).
pub struct ClientFirst {
    /// Whose password it is, unescaped and not prepared: the localpart (RFC 6120 §6.3.7).
    pub username: String,
    /// Whom the client wants to act as, unescaped and not prepared. The caller refuses others.
    pub authzid: Option<String>,
    hash: Hash,
    /// What `c=` must say, decoded: gs2-header and binding data.
    channel_binding: Vec<u8>,
    /// client-first-message-bare, as received.
    bare: String,
    nonce: String,
}

impl fmt::Debug for ClientFirst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientFirst")
            .field("username", &self.username)
            .field("authzid", &self.authzid)
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}

impl ClientFirst {
    /// Parses a client-first-message for SCRAM with `hash`, `plus` for a `-PLUS` mechanism.
    /// `offered_plus`: whether this stream offered a `-PLUS` mechanism.
    ///
    /// # Errors
    /// `MalformedRequest` for wrong syntax, a mandatory extension, or a flag that does not go with the
    /// mechanism. `NotAuthorized` for a type of binding that this connection has not, and for the
    /// flag `y` where `-PLUS` was offered, which means that somebody took it out of the offer
    /// (RFC 5802 §6).
    pub fn parse(
        data: &[u8],
        hash: Hash,
        plus: bool,
        offered_plus: bool,
        bindings: &Bindings,
    ) -> Result<ClientFirst, SaslFailure> {
        Ok(ClientFirst::parse_explained(
            data,
            hash,
            plus,
            offered_plus,
            bindings,
        )?)
    }

    /// [`ClientFirst::parse`] with a reason for the log.
    ///
    /// # Errors
    /// As there.
    pub fn parse_explained(
        data: &[u8],
        hash: Hash,
        plus: bool,
        offered_plus: bool,
        bindings: &Bindings,
    ) -> Result<ClientFirst, Refusal> {
        let text = utf8(data)?;
        let broken = Refusal::malformed("the GS2 header is broken");
        let (flag, rest) = text.split_once(',').ok_or(broken)?;
        let (authzid, bare) = rest.split_once(',').ok_or(broken)?;
        let header = text.strip_suffix(bare).unwrap_or_default();
        let authzid = match authzid {
            "" => None,
            authzid => Some(saslname(authzid.strip_prefix("a=").ok_or(broken)?)?),
        };
        let mut attributes = bare.split(',');
        let mut next = || attributes.next().unwrap_or_default();
        let first = next();
        if first.starts_with("m=") {
            return Err(MANDATORY_EXTENSION);
        }
        let username = first
            .strip_prefix("n=")
            .ok_or(Refusal::malformed("no user name"))?;
        let username = saslname(username)?;
        let nonce = next().strip_prefix("r=").filter(|nonce| is_nonce(nonce));
        let nonce = nonce
            .ok_or(Refusal::malformed("no nonce, or a wrong one"))?
            .to_owned();
        check_extensions(attributes)?;

        let mut channel_binding = header.as_bytes().to_vec();
        if let Some(data) = bound_data(flag, plus, offered_plus, bindings)? {
            channel_binding.extend_from_slice(data);
        }
        Ok(ClientFirst {
            username,
            authzid,
            hash,
            channel_binding,
            bare: bare.to_owned(),
            nonce,
        })
    }

    /// Makes the server-first-message (RFC 5802 §7).
    ///
    /// `verifier` is the account's, or [`super::fake_verifier`]'s with `known` false; one for another hash
    /// counts as unknown. `server_nonce` is fresh, printable ASCII without comma, 128 bits or more
    /// of chance. `downgrade` is [`downgrade_string`] of this stream's offer.
    pub fn challenge(
        self,
        verifier: &Verifier,
        known: bool,
        server_nonce: &str,
        downgrade: Option<&str>,
    ) -> (Exchange, Vec<u8>) {
        debug_assert!(is_nonce(server_nonce), "the server makes proper nonces");
        let nonce = format!("{}{server_nonce}", self.nonce);
        let salt = STANDARD.encode(&verifier.salt);
        let mut server_first = format!("r={nonce},s={salt},i={}", verifier.iterations);
        if let Some(offer) = downgrade {
            server_first.push_str(",h=");
            server_first.push_str(&STANDARD.encode(self.hash.of(offer.as_bytes())));
        }
        let message = server_first.clone().into_bytes();
        let exchange = Exchange {
            hash: self.hash,
            channel_binding: self.channel_binding,
            client_first_bare: self.bare,
            server_first,
            nonce,
            known: known && verifier.hash == self.hash,
            stored_key: Zeroizing::new(verifier.stored_key.clone()),
            server_key: Zeroizing::new(verifier.server_key.clone()),
        };
        (exchange, message)
    }
}

/// An exchange that waits for the client-final-message.
pub struct Exchange {
    hash: Hash,
    channel_binding: Vec<u8>,
    client_first_bare: String,
    server_first: String,
    nonce: String,
    known: bool,
    stored_key: Zeroizing<Vec<u8>>,
    server_key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}

impl Exchange {
    /// Checks the client-final-message and makes the server-final-message, `v=...`, which proves to
    /// the client that this server knows the account.
    ///
    /// # Errors
    /// `MalformedRequest` for wrong syntax. `NotAuthorized` for another nonce, another channel, a
    /// wrong password, an unknown user.
    pub fn finish(self, data: &[u8]) -> Result<Vec<u8>, SaslFailure> {
        Ok(self.finish_explained(data)?)
    }

    /// [`Exchange::finish`] with a reason for the log.
    ///
    /// # Errors
    /// As there.
    pub fn finish_explained(self, data: &[u8]) -> Result<Vec<u8>, Refusal> {
        let text = utf8(data)?;
        let no_proof = Refusal::malformed("no proof at the end, or one of another length");
        // A value has no comma, so the last ",p=" is where the last attribute starts.
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(no_proof)?;
        let mut attributes = without_proof.split(',');
        let mut next = || attributes.next().unwrap_or_default();
        let channel_binding = next().strip_prefix("c=").and_then(decode_wiped);
        let channel_binding =
            channel_binding.ok_or(Refusal::malformed("no channel binding in base64"))?;
        let nonce = next()
            .strip_prefix("r=")
            .ok_or(Refusal::malformed("no nonce"))?;
        check_extensions(attributes)?;
        // Who has it and the stored key has all that a login takes.
        let proof = decode_wiped(proof).ok_or(no_proof)?;
        if proof.len() != self.hash.size() {
            return Err(no_proof);
        }
        // These two are said of any user alike, so that they may end the exchange early.
        if !equal(nonce.as_bytes(), self.nonce.as_bytes()) {
            return Err(Refusal::not_authorized(
                "the nonce is not the one that was sent",
            ));
        }
        if !equal(&channel_binding, &self.channel_binding) {
            return Err(Refusal::not_authorized(
                "the channel binding differs: the client sees another TLS connection or offer",
            ));
        }
        self.check_proof(without_proof, &proof)
    }

    /// RFC 5802 §3: known and unknown users go through the same steps, then one answer is chosen.
    fn check_proof(&self, without_proof: &str, proof: &[u8]) -> Result<Vec<u8>, Refusal> {
        let auth_message = format!(
            "{},{},{without_proof}",
            self.client_first_bare, self.server_first
        );
        let sign = |key: &[u8]| self.hash.hmac(key, auth_message.as_bytes());
        let client_signature = Zeroizing::new(sign(&self.stored_key));
        let mut client_key = Zeroizing::new(proof.to_vec());
        for (key, signature) in client_key.iter_mut().zip(client_signature.iter()) {
            *key ^= signature;
        }
        let stored_key = Zeroizing::new(self.hash.of(&client_key));
        let proven = equal(&stored_key, &self.stored_key);
        let server_signature = sign(&self.server_key);
        match (proven, self.known) {
            (true, true) => Ok(format!("v={}", STANDARD.encode(server_signature)).into_bytes()),
            (_, false) => Err(Refusal::not_authorized(
                "the account has no such credentials",
            )),
            (false, true) => Err(Refusal::not_authorized("the password is wrong")),
        }
    }
}

const MANDATORY_EXTENSION: Refusal = Refusal {
    failure: SaslFailure::MalformedRequest,
    reason: "a mandatory extension, of which none is defined",
};

/// The data to bind to, by the client's flag (RFC 5802 §6).
fn bound_data<'a>(
    flag: &str,
    plus: bool,
    offered_plus: bool,
    bindings: &'a Bindings,
) -> Result<Option<&'a [u8]>, Refusal> {
    match (flag, plus) {
        ("n", false) => Ok(None),
        ("y", _) if offered_plus => Err(Refusal::not_authorized(
            "the client did not see that -PLUS was offered: somebody changed the offer",
        )),
        ("y", false) => Ok(None),
        ("n" | "y", true) => Err(Refusal::malformed("-PLUS without channel binding")),
        (flag, plus) => {
            let name = flag.strip_prefix("p=").filter(|name| is_binding_name(name));
            let name = name.ok_or(Refusal::malformed("the channel binding flag is broken"))?;
            if !plus {
                return Err(Refusal::malformed("channel binding without -PLUS"));
            }
            let data = Binding::parse(name).and_then(|binding| bindings.data(binding));
            data.map(Some).ok_or(Refusal::not_authorized(
                "a type of channel binding that this connection does not have",
            ))
        }
    }
}

fn utf8(data: &[u8]) -> Result<&str, Refusal> {
    let text = std::str::from_utf8(data).map_err(|_| Refusal::malformed("not UTF-8"))?;
    // `value-char` has no NUL, nor has anything else.
    if text.contains('\0') {
        return Err(Refusal::malformed("a NUL"));
    }
    Ok(text)
}

/// Unescapes a saslname (RFC 5802 §7).
fn saslname(escaped: &str) -> Result<String, Refusal> {
    if escaped.is_empty() {
        return Err(Refusal::malformed("an empty name"));
    }
    let mut pieces = escaped.split('=');
    let mut name = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (c, rest) = if let Some(rest) = piece.strip_prefix("2C") {
            (',', rest)
        } else if let Some(rest) = piece.strip_prefix("3D") {
            ('=', rest)
        } else {
            return Err(Refusal::malformed(
                "a name with a \"=\" that escapes nothing",
            ));
        };
        name.push(c);
        name.push_str(rest);
    }
    Ok(name)
}

/// Extensions are ignored if they are well-formed, optional, and no attribute of RFC 5802 out of
/// its place (§5.1, §7).
fn check_extensions<'a>(attributes: impl Iterator<Item = &'a str>) -> Result<(), Refusal> {
    for attribute in attributes {
        match attribute.as_bytes() {
            [b'm', b'=', ..] => return Err(MANDATORY_EXTENSION),
            [
                b'a' | b'c' | b'e' | b'i' | b'n' | b'p' | b'r' | b's' | b'v',
                b'=',
                ..,
            ] => {
                return Err(Refusal::malformed("an attribute twice or out of its place"));
            }
            [name, b'=', _, ..] if name.is_ascii_alphabetic() => {}
            _ => return Err(Refusal::malformed("a broken attribute")),
        }
    }
    Ok(())
}

/// `1*printable` of RFC 5802 §7.
fn is_nonce(s: &str) -> bool {
    !s.is_empty() && s.bytes().all(|b| b.is_ascii_graphic() && b != b',')
}

/// `cb-name` of RFC 5802 §7.
fn is_binding_name(s: &str) -> bool {
    !s.is_empty()
        && s.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
}

/// Compares in a time that depends on the lengths only.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && memcmp::eq(a, b)
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
