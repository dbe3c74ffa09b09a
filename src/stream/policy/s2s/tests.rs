//! Every combination against `cases.txt`, which is written by hand.

use std::collections::HashMap;
use std::ops::Range;

use super::*;

/// The columns of a case and their values.
const COLUMNS: [(&str, &[&str]); 15] = [
    ("enabled", &["on", "off"]),
    ("encryption", &["on", "off"]),
    ("auth", &["on", "off"]),
    ("listed", &["no", "secure", "insecure", "both"]),
    ("dane", &["on", "off"]),
    ("allow", &["empty", "peer", "others"]),
    ("deny", &["no", "peer"]),
    ("pinned", &["no", "yes"]),
    ("opened", &["peer", "us"]),
    ("tls", &["plain", "bare", "cert"]),
    (
        "chain",
        &["valid", "expired", "early", "self", "unknown", "bad", "-"],
    ),
    ("name", &["yes", "no", "-"]),
    ("pin", &["yes", "no", "-"]),
    ("tlsa", &["none", "unusable", "unknown", "match", "differ"]),
    (
        "dialback",
        &["untried", "pending", "verified", "failed", "impossible"],
    ),
];
/// The first columns are settings.
const SETTINGS: usize = 8;
const TLS: usize = 9;
const CHAIN: usize = 10;
const NAME: usize = 11;
const PIN: usize = 12;
const TLSA: usize = 13;

/// One value of each column.
#[derive(Clone, Copy)]
struct Combination([u8; COLUMNS.len()]);

impl Combination {
    fn value(&self, column: usize) -> &'static str {
        COLUMNS[column].1[usize::from(self.0[column])]
    }

    /// Without a certificate there is nothing to say of one.
    fn is_possible(&self) -> bool {
        let has_certificate = self.value(TLS) == "cert";
        let says_nothing = |column| self.value(column) == "-";
        [CHAIN, NAME, PIN].map(says_nothing) == [!has_certificate; 3]
            && (has_certificate || self.value(TLSA) != "match")
    }

    fn facts(&self) -> Facts {
        let tls = match self.value(TLS) {
            "plain" => Tls::None,
            "bare" => Tls::Bare,
            _ => Tls::Certificate(Shown {
                chain: match self.value(CHAIN) {
                    "valid" => Ok(()),
                    "expired" => Err(Fault::Expired),
                    "early" => Err(Fault::NotYetValid),
                    "self" => Err(Fault::SelfSigned),
                    "unknown" => Err(Fault::UnknownAuthority),
                    _ => Err(Fault::Invalid),
                },
                names_peer: self.value(NAME) == "yes",
                matches_pin: self.value(PIN) == "yes",
                matches_tlsa: self.value(TLSA) == "match",
            }),
        };
        Facts {
            direction: match self.value(8) {
                "peer" => Direction::Accepted,
                _ => Direction::Dialled,
            },
            tls,
            dane: match self.value(TLSA) {
                "none" => Dane::None,
                "unusable" => Dane::Unusable,
                "unknown" => Dane::Unknown,
                _ => Dane::Usable,
            },
            dialback: match self.value(14) {
                "untried" => Dialback::NotTried,
                "pending" => Dialback::Pending,
                "verified" => Dialback::Verified,
                "failed" => Dialback::Failed,
                _ => Dialback::Impossible,
            },
        }
    }
}

/// All values of some columns, the others at their first.
fn values_of(columns: Range<usize>) -> Vec<Combination> {
    let mut all = vec![Combination([0; COLUMNS.len()])];
    for column in columns {
        let values = u8::try_from(COLUMNS[column].1.len()).unwrap();
        let with = |each: &Combination| {
            let mut each = *each;
            (0..values).map(move |value| {
                each.0[column] = value;
                each
            })
        };
        all = all.iter().flat_map(with).collect();
    }
    all
}

/// Calls `each` with every combination, and its policy.
fn for_all(mut each: impl FnMut(&Owned, Combination)) {
    let mut facts = values_of(SETTINGS..COLUMNS.len());
    facts.retain(Combination::is_possible);
    for settings in values_of(0..SETTINGS) {
        let owned = Owned::of(&settings);
        for facts in &facts {
            let mut combination = settings;
            combination.0[SETTINGS..].copy_from_slice(&facts.0[SETTINGS..]);
            each(&owned, combination);
        }
    }
}

/// The lists and switches of a policy, as its owner.
#[derive(Clone)]
struct Owned {
    switches: [bool; 5],
    lists: [DomainList; 4],
}

fn peer() -> Domain {
    Domain::parse("example.net").unwrap()
}

fn list(entries: &[&str]) -> DomainList {
    let mut list = DomainList::default();
    for entry in entries {
        list.add(entry).unwrap();
    }
    list
}

impl Owned {
    fn of(combination: &Combination) -> Owned {
        let is = |column: usize, value| combination.value(column) == value;
        let on_list = |yes, other| list(&[if yes { "example.net" } else { other }]);
        Owned {
            switches: [
                is(0, "on"),
                is(1, "on"),
                is(2, "on"),
                is(4, "on"),
                is(7, "yes"),
            ],
            lists: [
                on_list(is(3, "secure") || is(3, "both"), "a.example"),
                on_list(is(3, "insecure") || is(3, "both"), "b.example"),
                match combination.value(5) {
                    "empty" => DomainList::default(),
                    allowed => on_list(allowed == "peer", "c.example"),
                },
                on_list(is(6, "peer"), "d.example"),
            ],
        }
    }

    fn policy(&self) -> S2sPolicy<'_> {
        let [enabled, require_encryption, secure_auth, dane, pinned] = self.switches;
        let [secure_domains, insecure_domains, allow, deny] = &self.lists;
        S2sPolicy {
            enabled,
            require_encryption,
            secure_auth,
            secure_domains,
            insecure_domains,
            dane,
            allow,
            deny,
            pinned,
        }
    }
}

struct Case {
    line: &'static str,
    /// The values that fit, a bit for each.
    fits: [u8; COLUMNS.len()],
    outcome: Outcome,
    reason: &'static str,
}

/// `cases.txt`: the cases, the sentences, and what is said of a lack.
struct Book {
    cases: Vec<Case>,
    reasons: HashMap<&'static str, &'static str>,
    lacks: Vec<([&'static str; 3], &'static str)>,
}

impl Book {
    fn read() -> Book {
        let mut book = Book {
            cases: Vec::new(),
            reasons: HashMap::new(),
            lacks: Vec::new(),
        };
        for line in include_str!("cases.txt").lines() {
            let Some((kind, rest)) = line.split_once(' ') else {
                assert!(line.is_empty() || line == "#", "{line}");
                continue;
            };
            match kind {
                "reason" => {
                    let (label, sentence) = rest.split_once(' ').expect(line);
                    let before = book.reasons.insert(label, sentence.trim());
                    assert!(before.is_none(), "{line}");
                }
                "lack" => {
                    let (tls, rest) = rest.trim().split_once(' ').expect(line);
                    let (chain, rest) = rest.trim().split_once(' ').expect(line);
                    let (name, sentence) = rest.trim().split_once(' ').expect(line);
                    book.lacks.push(([tls, chain, name], sentence.trim()));
                }
                "case" => book.cases.push(Case::read(line, rest)),
                _ => assert!(kind.starts_with('#'), "{line}"),
            }
        }
        book
    }

    /// The line for a combination, and the sentence that it gives.
    fn expected(&self, combination: &Combination) -> (usize, String) {
        let fits = |case: &Case| {
            let mut columns = case.fits.iter().zip(&combination.0);
            columns.all(|(fits, at)| fits >> at & 1 == 1)
        };
        let values = || (0..COLUMNS.len()).map(|column| combination.value(column));
        let Some(at) = self.cases.iter().position(fits) else {
            panic!("no line for {:?}", values().collect::<Vec<_>>());
        };
        let reason = self.cases[at].reason;
        let Some(sentence) = self.reasons.get(reason) else {
            panic!("no sentence for {reason}");
        };
        if !sentence.contains("{lack}") {
            return (at, (*sentence).to_owned());
        }
        let shown = [TLS, CHAIN, NAME].map(|column| combination.value(column));
        let is_it = |lack: &[&str; 3]| {
            let mut columns = lack.iter().zip(shown);
            columns.all(|(lack, shown)| *lack == "*" || *lack == shown)
        };
        let Some((_, lack)) = self.lacks.iter().find(|(lack, _)| is_it(lack)) else {
            panic!("nothing lacks in {:?}", values().collect::<Vec<_>>());
        };
        (at, sentence.replace("{lack}", lack))
    }
}

impl Case {
    fn read(line: &'static str, rest: &'static str) -> Case {
        let words: Vec<&str> = rest.split_whitespace().collect();
        assert_eq!(words.len(), COLUMNS.len() + 2, "{line}");
        let mut fits = [0; COLUMNS.len()];
        for ((fits, word), (name, values)) in fits.iter_mut().zip(&words).zip(COLUMNS) {
            for value in word.split('/') {
                let at = values.iter().position(|known| *known == value);
                *fits |= match at {
                    Some(at) => 1 << at,
                    None if value == "*" => u8::MAX,
                    None => panic!("{name} is never {value}: {line}"),
                };
            }
        }
        let outcome = match words[COLUMNS.len()] {
            "refuse" => Outcome::Refuse,
            "need" => Outcome::NeedDialback,
            "pin" => Outcome::Accept(Means::Pin),
            "dane" => Outcome::Accept(Means::Dane),
            "certificate" => Outcome::Accept(Means::Certificate),
            "dialback" => Outcome::Accept(Means::Dialback),
            other => panic!("no outcome {other}: {line}"),
        };
        Case {
            line,
            fits,
            outcome,
            reason: words[COLUMNS.len() + 1],
        }
    }
}

/// Issue 6, "Policy".
#[test]
fn every_combination_is_decided_as_it_is_written() {
    let book = Book::read();
    let peer = peer();
    let mut uses = vec![0_u32; book.cases.len()];
    let mut sentences = HashMap::new();
    for_all(|owned, combination| {
        let verdict = judge(&owned.policy(), &peer, &combination.facts());
        let (at, expected) = book.expected(&combination);
        uses[at] += 1;
        let case = &book.cases[at];
        assert_eq!(verdict.outcome, case.outcome, "{}", case.line);
        let said: &String = sentences
            .entry(verdict.reason)
            .or_insert_with(|| verdict.reason.sentence(&peer));
        assert_eq!(*said, expected, "{}", case.line);
    });
    for (case, uses) in book.cases.iter().zip(&uses) {
        assert!(
            *uses > 0,
            "no combination comes to this line: {}",
            case.line
        );
    }
    for (reason, sentence) in &book.reasons {
        let is_used = book.cases.iter().any(|case| case.reason == *reason);
        assert!(is_used, "{reason}: {sentence}");
    }
    assert!(uses.iter().sum::<u32>() > 900_000, "{uses:?}");
}

/// A name is shut out before anything is known of a connection exactly when it would be with all facts.
#[test]
fn who_is_shut_out_by_name_is_refused_whatever_it_shows() {
    let peer = peer();
    for_all(|owned, combination| {
        if combination.value(CHAIN) == "early" || combination.value(14) == "pending" {
            return;
        }
        let by_name = shut_out(&owned.policy(), &peer);
        let verdict = judge(&owned.policy(), &peer, &combination.facts());
        let is_about_name = matches!(
            verdict.reason,
            Reason::Disabled | Reason::Denied | Reason::NotAllowed
        );
        assert_eq!(by_name, is_about_name.then_some(verdict));
    });
}

/// The policy and the facts as the one change makes them; none if the conf file would be refused.
fn changed(owned: &Owned, facts: &Facts, remedy: Remedy) -> Option<(Owned, Facts)> {
    let (mut owned, mut facts) = (owned.clone(), *facts);
    let without = |list: &DomainList| {
        assert!(list.contains(&peer()));
        DomainList::default()
    };
    match remedy {
        Remedy::Enable => owned.switches[0] = true,
        Remedy::AllowUnencrypted => owned.switches[1] = false,
        Remedy::IgnoreTlsa => owned.switches[3] = false,
        Remedy::Repin => match &mut facts.tls {
            Tls::Certificate(shown) => shown.matches_pin = true,
            _ => owned.switches[4] = false,
        },
        Remedy::Unsecure if owned.lists[0].contains(&peer()) => {
            owned.lists[0] = without(&owned.lists[0]);
        }
        Remedy::Unsecure => return None,
        Remedy::AllowInsecure => owned.lists[1].add("example.net").unwrap(),
        Remedy::Allow => owned.lists[2].add("example.net").unwrap(),
        Remedy::Undeny if owned.lists[3].contains(&peer()) => {
            owned.lists[3] = without(&owned.lists[3]);
        }
        Remedy::Undeny => return None,
    }
    let [secure, insecure, ..] = &owned.lists;
    secure.shared(insecure).is_empty().then_some((owned, facts))
}

/// What is advised helps, and where nothing is advised no single change would.
#[test]
fn a_remedy_turns_the_refusal_and_without_one_no_change_of_one_option_does() {
    let all = [
        Remedy::Enable,
        Remedy::AllowUnencrypted,
        Remedy::IgnoreTlsa,
        Remedy::Repin,
        Remedy::Unsecure,
        Remedy::AllowInsecure,
        Remedy::Allow,
        Remedy::Undeny,
    ];
    let peer = peer();
    let mut advised = HashMap::new();
    for_all(|owned, combination| {
        // What is left out is to a remedy as something else that is not.
        if combination.value(3) == "both"
            || combination.value(5) == "empty"
            || combination.value(TLSA) == "unusable"
            || !matches!(combination.value(CHAIN), "valid" | "self" | "-")
            || !matches!(
                (combination.value(8), combination.value(14)),
                ("peer", "untried" | "failed") | ("us", "failed")
            )
        {
            return;
        }
        let facts = combination.facts();
        let is_refused = |owned: &Owned, facts: &Facts| {
            judge(&owned.policy(), &peer, facts).outcome == Outcome::Refuse
        };
        let remedy = remedy(&owned.policy(), &peer, &facts);
        if !is_refused(owned, &facts) {
            assert_eq!(remedy, None);
            return;
        }
        let helps = |remedy: Remedy| {
            changed(owned, &facts, remedy).is_some_and(|(owned, facts)| !is_refused(&owned, &facts))
        };
        let helpful: Vec<Remedy> = all.into_iter().filter(|remedy| helps(*remedy)).collect();
        match remedy {
            None => assert_eq!(helpful, [], "{facts:?} {:?}", owned.policy()),
            Some(Remedy::Unsecure) => assert_eq!(helpful, [Remedy::Unsecure]),
            Some(remedy) => assert_eq!(helpful, [remedy], "{facts:?} {:?}", owned.policy()),
        }
        *advised.entry(remedy).or_insert(0_u32) += 1;
    });
    for remedy in all {
        assert!(advised.contains_key(&Some(remedy)), "{remedy:?}");
    }
    assert!(advised.contains_key(&None));
}

fn defaults() -> Owned {
    Owned {
        switches: [true, true, true, false, false],
        lists: Default::default(),
    }
}

fn self_signed() -> Facts {
    Facts {
        direction: Direction::Accepted,
        tls: Tls::Certificate(Shown {
            chain: Err(Fault::SelfSigned),
            names_peer: true,
            matches_pin: false,
            matches_tlsa: false,
        }),
        dane: Dane::None,
        dialback: Dialback::NotTried,
    }
}

#[test]
fn a_refusal_says_what_decides_and_what_would_change_it() {
    let peer = peer();
    let owned = defaults();
    let advice = |owned: &Owned, facts: &Facts| {
        let verdict = judge(&owned.policy(), &peer, facts);
        assert_eq!(verdict.outcome, Outcome::Refuse);
        let remedy = remedy(&owned.policy(), &peer, facts);
        let remedy = remedy.map(|remedy| remedy.sentence(&peer));
        (verdict.reason.sentence(&peer), remedy)
    };
    assert_eq!(
        advice(&owned, &self_signed()),
        (
            "s2s.secure_auth = true and its certificate is self-signed".to_owned(),
            Some("put example.net on s2s.insecure_domains".to_owned())
        )
    );

    // Without TLS two options stand in the way, of which neither alone would do.
    let plain = Facts {
        tls: Tls::None,
        ..self_signed()
    };
    assert_eq!(advice(&owned, &plain).1, None);

    let mut strict = defaults();
    strict.switches[2] = false;
    strict.lists[0] = list(&["example.net"]);
    assert_eq!(
        advice(&strict, &self_signed()),
        (
            "example.net is on s2s.secure_domains and its certificate is self-signed".to_owned(),
            Some("take example.net off s2s.secure_domains".to_owned())
        )
    );

    // An impostor whose dialback has failed is not helped in.
    let failed = Facts {
        dialback: Dialback::Failed,
        ..self_signed()
    };
    assert_eq!(advice(&owned, &failed).1, None);
}

#[test]
fn the_closer_entry_of_both_lists_decides() {
    let peer = Domain::parse("chat.example.net").unwrap();
    for (secure, insecure, expected) in [
        ("*.net", "*.example.net", Outcome::NeedDialback),
        ("*.example.net", "*.net", Outcome::Refuse),
        ("*.example.net", "chat.example.net", Outcome::NeedDialback),
        ("chat.example.net", "*.example.net", Outcome::Refuse),
        ("example.net", "*.example.net", Outcome::NeedDialback),
        ("*.example.net", "example.net", Outcome::Refuse),
    ] {
        for secure_auth in [true, false] {
            let mut owned = defaults();
            owned.switches[2] = secure_auth;
            owned.lists[0] = list(&[secure]);
            owned.lists[1] = list(&[insecure]);
            let verdict = judge(&owned.policy(), &peer, &self_signed());
            assert_eq!(verdict.outcome, expected, "{secure} {insecure}");
        }
    }
    // A wildcard on the one is no hindrance to a name on the other.
    let mut owned = defaults();
    owned.lists[0] = list(&["*.net"]);
    let remedy = remedy(&owned.policy(), &peer, &self_signed());
    assert_eq!(remedy, Some(Remedy::AllowInsecure));
}
