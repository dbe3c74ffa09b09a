//! SCRAM against what no client should send.

use proptest::prelude::*;

use super::tests::{FORM, SECRET, bound, ready, unbound};
use super::*;
use crate::sasl::fake_verifier;

#[test]
fn malformed_first_messages_are_refused() {
    // (message, whether the mechanism is a -PLUS)
    let table: [(&[u8], bool); 46] = [
        (b"", false),
        (b"n", false),
        (b"n,", false),
        (b"n,,", false),
        (b",,n=a,r=b", false),
        (b"x,,n=a,r=b", false),
        (b"N,,n=a,r=b", false),
        (b"nn,,n=a,r=b", false),
        (b"n=,,n=a,r=b", false),
        (b"F,n,,n=a,r=b", false),
        (b"n,,n=a", false),
        (b"n,,r=b", false),
        (b"n,,r=b,n=a", false),
        (b"n,,n=a,", false),
        (b"n,,n=a,r=", false),
        (b"n,,n=a,x=b", false),
        (b"n,,n=a,R=b", false),
        (b"n,,n=,r=b", false),
        (b"n,,N=a,r=b", false),
        (b"n,,n=a=,r=b", false),
        (b"n,,n=a=2,r=b", false),
        (b"n,,n=a=2c,r=b", false),
        (b"n,,n=a=3d,r=b", false),
        (b"n,,n=a=41,r=b", false),
        (b"n,,n=a==2C,r=b", false),
        (b"n,,n=a\0,r=b", false),
        (b"n,,n=\xff,r=b", false),
        (b"n,,n=a,r=\xc3\xa9", false),
        (b"n,,n=a,r=b c", false),
        (b"n,,n=a,r=b\x7f", false),
        (b"n,,n=a,r=b,", false),
        (b"n,,n=a,r=b,xx", false),
        (b"n,,n=a,r=b,x", false),
        (b"n,,n=a,r=b,x=", false),
        (b"n,,n=a,r=b,1=2", false),
        (b"n,,n=a,r=b,n=c", false),
        (b"n,,n=a,r=b,r=c", false),
        (b"n,,n=a,r=b,m=c", false),
        (b"n,,m=x,n=a,r=b", false),
        (b"n,a=,n=a,r=b", false),
        (b"n,b,n=a,r=b", false),
        (b"n,a=b=,n=a,r=b", false),
        (b"n,,n=a,r=b", true),
        (b"p=,,n=a,r=b", true),
        (b"p=tls exporter,,n=a,r=b", true),
        (b"p=tls-exporter,,n=a,r=b", false),
    ];
    for (data, plus) in table {
        let parsed = ClientFirst::parse(data, Hash::Sha256, plus, plus, &bound());
        let shown = String::from_utf8_lossy(data);
        assert_eq!(
            parsed.err(),
            Some(SaslFailure::MalformedRequest),
            "{shown:?}"
        );
    }
}

#[test]
fn malformed_final_messages_are_refused() {
    use SaslFailure::{MalformedRequest, NotAuthorized};
    let (_, good) = ready(true);
    let (head, proof) = good.split_once(",p=").unwrap();
    let (c, r) = head.split_once(',').unwrap();
    let short = STANDARD.encode([0; 31]);
    let long = STANDARD.encode([0; 33]);
    let table = [
        ("".to_owned(), MalformedRequest),
        (head.to_owned(), MalformedRequest),
        (format!("{head},p="), MalformedRequest),
        (format!("{head},p={short}"), MalformedRequest),
        (format!("{head},p={long}"), MalformedRequest),
        (format!("{head},p={proof}="), MalformedRequest),
        (
            format!("{head},p={}", proof.trim_end_matches('=')),
            MalformedRequest,
        ),
        (format!("{head},p={proof},x=y"), MalformedRequest),
        (format!("{head},p={proof},p={proof}"), MalformedRequest),
        (format!("{head},P={proof}"), MalformedRequest),
        (format!("{r},{c},p={proof}"), MalformedRequest),
        (format!("{c},p={proof}"), MalformedRequest),
        (format!("{r},p={proof}"), MalformedRequest),
        (format!(",{head},p={proof}"), MalformedRequest),
        (format!("{head},,p={proof}"), MalformedRequest),
        (format!("{head},m=x,p={proof}"), MalformedRequest),
        (format!("{head},{r},p={proof}"), MalformedRequest),
        (format!("{head},x,p={proof}"), MalformedRequest),
        (format!("{head},x=,p={proof}"), MalformedRequest),
        (format!("{head},x=\0,p={proof}"), MalformedRequest),
        (format!("c=biw,{r},p={proof}"), MalformedRequest),
        (format!("c=b!ws,{r},p={proof}"), MalformedRequest),
        (format!("c=,{r},p={proof}"), NotAuthorized),
        // "y,," where "n,," was sent.
        (format!("c=eSws,{r},p={proof}"), NotAuthorized),
        (format!("{c},r=,p={proof}"), NotAuthorized),
        (format!("{c},r=clientnonce,p={proof}"), NotAuthorized),
        (format!("{c},{r}x,p={proof}"), NotAuthorized),
        (
            format!("{c},r=Clientnonceservernonce,p={proof}"),
            NotAuthorized,
        ),
        // The proof signs the message without it.
        (format!("{head},x=y,p={proof}"), NotAuthorized),
        (
            format!("{head},p={}", STANDARD.encode([0; 32])),
            NotAuthorized,
        ),
    ];
    for (message, failure) in table {
        for known in [true, false] {
            let (exchange, _) = ready(known);
            let answer = exchange.finish(message.as_bytes());
            assert_eq!(answer.err(), Some(failure), "{message:?}, known: {known}");
        }
    }
    assert!(ready(true).0.finish(good.as_bytes()).is_ok());
    assert_eq!(
        ready(true).0.finish(b"c=biws,\xff").err(),
        Some(MalformedRequest)
    );
}

fn exchange_of_unknown_user() -> Exchange {
    let first = b"n,,n=juliet,r=clientnonce";
    let first = ClientFirst::parse(first, Hash::Sha256, false, false, &unbound()).unwrap();
    let fake = fake_verifier(&SECRET, "juliet@example.org", FORM);
    first.challenge(&fake, false, "servernonce", None).0
}

proptest! {
    #[test]
    fn no_first_message_panics(data in any::<Vec<u8>>(), plus: bool, offered: bool) {
        prop_assert!(ClientFirst::parse(&data, Hash::Sha1, plus, offered, &bound()).is_err());
    }

    /// Strings near the grammar: what is accepted says again what was sent.
    #[test]
    fn an_accepted_first_message_is_what_was_sent(
        message in "(n|y|p=tls-exporter|p=x),(a=[a=2C3D]{0,4})?,(m=x,)?n=[é,=2C3Da]{0,6},r=[!-~ ]{0,4}(,[a-z]=[a-z=]{0,2}){0,2}",
        plus: bool,
    ) {
        if let Ok(first) = ClientFirst::parse(message.as_bytes(), Hash::Sha1, plus, plus, &bound()) {
            let again = first.username.replace('=', "=3D").replace(',', "=2C");
            let sent = format!("n={again},r={}", first.nonce);
            prop_assert!(first.bare.starts_with(&sent));
            prop_assert!(message.ends_with(&first.bare));
            prop_assert!(!message.contains("m=x,n="));
            prop_assert_eq!(plus, message.starts_with("p="));
        }
    }

    #[test]
    fn no_final_message_panics_or_passes(data in any::<Vec<u8>>()) {
        prop_assert!(exchange_of_unknown_user().finish(&data).is_err());
    }

    #[test]
    fn no_final_message_near_the_grammar_passes(
        message in "c=(biws|eSws|[a-zA-Z0-9+/=]{0,8}),r=(clientnonceservernonce|[!-~]{0,9})(,[a-z]=[a-z=]{0,2}){0,2},p=[a-zA-Z0-9+/]{43}=",
    ) {
        prop_assert!(exchange_of_unknown_user().finish(message.as_bytes()).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever one octet of a good final message becomes, the message is no longer good.
    #[test]
    fn one_changed_octet_spoils_a_final_message(place: prop::sample::Index, other: u8) {
        let (exchange, good) = ready(true);
        let mut changed = good.into_bytes();
        let place = place.index(changed.len());
        prop_assume!(changed[place] != other);
        changed[place] = other;
        prop_assert!(exchange.finish(&changed).is_err());
    }
}
