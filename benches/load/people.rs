//! Who is whose contact: accounts in circles, in which all are each other's contacts.
//!
//! So a whole number of circles is closed: every contact of a session can be online, and each
//! change of presence is delivered exactly as often as an account has contacts.

use std::collections::HashMap;
use std::ops::Range;

use crate::fleet::Fleet;
use crate::roster;

/// The circles of a run: account i belongs to circle i / (contacts + 1).
#[derive(Clone, Copy, Debug)]
pub struct Circles {
    members: usize,
    count: usize,
}

impl Circles {
    /// The circles that so many accounts make, each with so many contacts.
    ///
    /// # Errors
    /// If a circle would be incomplete.
    pub fn new(contacts: usize, accounts: usize) -> Result<Circles, String> {
        let members = contacts + 1;
        let count = accounts / members;
        if contacts == 0 || count == 0 || count * members != accounts {
            return Err(format!(
                "with {contacts} contacts each, accounts come in circles of {members}; {accounts} \
                 are no multiple of that"
            ));
        }
        Ok(Circles { members, count })
    }

    /// How many circles there are.
    pub fn count(self) -> usize {
        self.count
    }

    /// Accounts in each.
    pub fn members(self) -> usize {
        self.members
    }

    /// The circle of an account.
    pub fn of(self, account: usize) -> usize {
        account / self.members
    }

    /// The accounts of a circle.
    pub fn accounts(self, circle: usize) -> Range<usize> {
        circle * self.members..(circle + 1) * self.members
    }

    /// All pairs of contacts, the lower account first. Those that follow one another have different
    /// circles, and then different members, so that few of the pairs under way share an account.
    pub fn pairs(self) -> impl Iterator<Item = (usize, usize)> {
        (1..self.members).flat_map(move |distance| {
            (0..self.members - distance).flat_map(move |member| {
                (0..self.count).map(move |circle| {
                    let account = circle * self.members + member;
                    (account, account + distance)
                })
            })
        })
    }
}

/// The accounts of a run by their JIDs, and the session of each.
#[derive(Debug)]
pub struct People {
    /// Bare JIDs by account.
    jids: Vec<String>,
    /// Session ids by account, for those that are online to stay.
    sessions: Vec<Option<usize>>,
    accounts: HashMap<Vec<u8>, usize>,
}

impl People {
    /// All accounts of a fleet, with those of its sessions that `ids` names.
    pub fn new(fleet: &Fleet, ids: &[usize]) -> People {
        let domain = &fleet.logins.domain;
        let accounts = fleet.logins.accounts.iter();
        let jids = accounts.map(|account| format!("{}@{domain}", account.user));
        let mut people = People::named(jids.collect());
        for &id in ids {
            people.sessions[fleet.sessions[id].account] = Some(id);
        }
        people
    }

    /// People of these bare JIDs, without sessions.
    pub fn named(jids: Vec<String>) -> People {
        let accounts = jids.iter().enumerate();
        let accounts = accounts.map(|(account, jid)| (jid.clone().into_bytes(), account));
        People {
            accounts: accounts.collect(),
            sessions: vec![None; jids.len()],
            jids,
        }
    }

    /// An account's bare JID.
    pub fn jid(&self, account: usize) -> &str {
        &self.jids[account]
    }

    /// The session of an account that is online to stay.
    pub fn session(&self, account: usize) -> Option<usize> {
        self.sessions[account]
    }

    /// The account of a bare or full JID.
    pub fn account(&self, jid: &[u8]) -> Option<usize> {
        let bare = jid.split(|&b| b == b'/').next().unwrap_or(jid);
        self.accounts.get(bare).copied()
    }

    /// Whether the rosters that these sessions got have exactly their circles; they are let go.
    ///
    /// # Errors
    /// As below.
    pub fn check_rosters(
        &self,
        fleet: &mut Fleet,
        circles: Circles,
        ids: &[usize],
    ) -> Result<(), String> {
        for &id in ids {
            let session = &mut fleet.sessions[id];
            let result = std::mem::take(&mut session.roster);
            self.check_roster(circles, session.account, &result)?;
        }
        Ok(())
    }

    /// Whether a roster, as a server sent it, has exactly the circle of an account, all mutual.
    ///
    /// # Errors
    /// With what it has instead, and how to mend it.
    pub fn check_roster(
        &self,
        circles: Circles,
        account: usize,
        result: &[u8],
    ) -> Result<(), String> {
        let wanted = circles.accounts(circles.of(account));
        let mut mutual = vec![false; circles.members()];
        for (jid, subscription) in roster::items(result) {
            let contact = self.account(jid).filter(|contact| wanted.contains(contact));
            let (Some(contact), b"both") = (contact, subscription) else {
                return Err(format!(
                    "{} has contact {} with subscription {}; `load contacts` makes circles, and \
                     needs the same --contacts as this run",
                    self.jid(account),
                    String::from_utf8_lossy(jid),
                    String::from_utf8_lossy(subscription)
                ));
            };
            mutual[contact - wanted.start] = true;
        }
        let found = mutual.iter().filter(|mutual| **mutual).count();
        if found == circles.members() - 1 && !mutual[account - wanted.start] {
            return Ok(());
        }
        Err(format!(
            "{} has {found} contacts, not {}: set them up with `load contacts` first",
            self.jid(account),
            circles.members() - 1
        ))
    }
}

/// Claims about circles, run by `load check`.
pub fn check() {
    assert!(Circles::new(2, 7).is_err());
    assert!(Circles::new(0, 7).is_err());
    let circles = Circles::new(2, 6).expect("six accounts are two circles of three");
    assert_eq!(
        circles.pairs().collect::<Vec<_>>(),
        [(0, 1), (3, 4), (1, 2), (4, 5), (0, 2), (3, 5)]
    );
    assert_eq!(circles.accounts(circles.of(4)), 3..6);

    let people = People::named((0..6).map(|i| format!("user{i}@example.org")).collect());
    assert_eq!(people.account(b"user5@example.org/load0"), Some(5));
    assert_eq!(people.account(b"user6@example.org"), None);
    let roster = |items: &[(usize, &str)]| {
        let items = items.iter().map(|(i, subscription)| {
            format!("<item jid='user{i}@example.org' subscription='{subscription}'/>")
        });
        format!("<iq><query>{}</query></iq>", items.collect::<String>())
    };
    let check =
        |account, items: &[_]| people.check_roster(circles, account, roster(items).as_bytes());
    assert_eq!(check(4, &[(5, "both"), (3, "both")]), Ok(()));
    let wrong: [&[(usize, &str)]; 4] = [
        &[(3, "both")],
        &[(3, "both"), (5, "to")],
        &[(3, "both"), (2, "both")],
        &[(3, "both"), (4, "both")],
    ];
    assert!(wrong.iter().all(|items| check(4, items).is_err()));
}
